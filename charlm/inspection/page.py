"""A model as one HTML file that runs it: it samples text, scores text, shows units and the embedding.

The page computes what generation/numpy_recurrent.py computes, in JavaScript (page/engine.js, page/sampler.js).

Shapes: V vocab_size, E n_embed, H n_hidden, G gates.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import UsageError
from charlm.evaluation.metrics import nats_to_bits
from charlm.generation.generator import TextGenerator
from charlm.generation.line_limit import LineLimit
from charlm.generation.numpy_recurrent import InputLayer, RecurrentLayers, RecurrentStepper
from charlm.generation.sampler import SamplingParams, generate_ids, log_softmax, uniform_stream
from charlm.inspection.embedding import principal_components
from charlm.inspection.html import document, served_document

SCRIPTS = ("engine.js", "sampler.js", "textview.js", "embedding.js", "app.js")
ARCHITECTURES = "char3, loop, concat, rnn, gru, lstm, their scratch twins, awd-lstm"
SERVED_SCRIPTS = (*SCRIPTS[:-1], "remote.js", SCRIPTS[-1])
MAX_FLOAT16_COST = 1e-4  # bits per character; above it, weights are stored in float32
PROBE_CHARS = 500  # sampled characters on which the cost of float16 is measured


def model_page(model: TextGenerator, title: str) -> str:
    """Return a page that runs a model.

    Args:
        model: a recurrent one, see `ARCHITECTURES`.
        title: of the page.

    Returns:
        HTML.

    Raises:
        UsageError: the page cannot run this architecture.
    """
    data = _page_data(model, title)
    if data["model"] is None:
        raise UsageError(f"{title}: a page cannot run {model.metadata.model}; it can run {ARCHITECTURES}")
    return document(title, "export.html", SCRIPTS, data)


def served_page(model: TextGenerator, name: str, names: Sequence[str]) -> tuple[str, str]:
    """Return the page of a model for a server, and its policy; see `served_document`.

    The server computes for a model that a page cannot run.

    Args:
        model: the model.
        name: by which the server calls it.
        names: of all models of the server.
    """
    return served_document(name, "export.html", SERVED_SCRIPTS, _page_data(model, name) | {"models": list(names)})


def _page_data(model: TextGenerator, title: str) -> dict[str, Any]:
    """Return the data of a page; without `model` and `embedding` where a page cannot run the model."""
    stepper, metadata = model.stepper(), model.metadata
    data = {
        "title": title,
        "models": [],
        "summary": _summary(model),
        "symbols": metadata.vocab.codepoints.tolist(),
        "is_bytes": metadata.is_bytes,
        "lower": metadata.is_lower,
        "unit": _unit(model),
        "model": None,
        "line_limit": _line_limit(model),
        "embedding": None,
        "about": _about(model),
    }
    if isinstance(stepper, RecurrentStepper):
        data["model"] = model_spec(stepper, model)
        coordinates, _ = principal_components(stepper.layers.inputs.embed[1:])
        data["embedding"] = [
            [point, *map(float, place)]
            for point, place in zip(metadata.vocab.codepoints.tolist(), coordinates.round(4), strict=True)
        ]
    return data


def model_spec(stepper: RecurrentStepper, model: TextGenerator) -> dict[str, Any]:
    """Return the layers of a recurrent model for engine.js.

    Arrays are given as [start, size] in one vector of numbers, `weights`: base64 of little-endian
    float16, or of float32 if `float16_cost` is above `MAX_FLOAT16_COST`. Matrices are (n_out, n_in).
    """
    layers = stepper.layers
    arrays: list[NDArray[Any]] = []

    def put(array: NDArray[Any]) -> list[int]:
        start = sum(each.size for each in arrays)
        arrays.append(np.ascontiguousarray(array.T).ravel())
        return [start, array.size]

    cell = layers.cell.func if isinstance(layers.cell, partial) else layers.cell
    spec = {
        "cell": cell.__name__.removesuffix("_cell"),
        "nonlinearity": layers.cell.keywords.get("nonlinearity") if isinstance(layers.cell, partial) else None,
        "vocab_size": len(model.vocab),
        "bos_id": model.vocab.bos_id,
        "n_context": model.metadata.n_context,
        "n_hidden": layers.n_hidden,
        "n_states": layers.n_states,
        "inputs": [put(layers.inputs.embed.T), put(layers.inputs.weight), put(layers.inputs.bias)],
        "input_relu": layers.inputs.relu,
        "cell_weights": [[put(array) for array in layer] for layer in layers.cell_weights],
        "upper": [[put(array) for array in layer] for layer in layers.upper],
        "head": [[put(array) for array in layer] for layer in stepper.head],
    }
    weights = np.concatenate(arrays).astype("<f4")
    spec["is_half"] = float16_cost(stepper, model) <= MAX_FLOAT16_COST
    data = weights.astype("<f2" if spec["is_half"] else "<f4").tobytes()
    return spec | {"weights": base64.b64encode(data).decode()}


def float16_cost(stepper: RecurrentStepper, model: TextGenerator) -> float:
    """Return the cost of float16 weights on sampled text, in bits per character; nan if they overflow.

    This is the Kullback-Leibler divergence of the predictions with rounded weights from those with the full ones.
    """
    bos_id, n_context = model.vocab.bos_id, model.metadata.n_context
    start = [bos_id] * (n_context or 1)
    ids = list(
        generate_ids(model.stepper(), start, islice(uniform_stream(0), PROBE_CHARS), SamplingParams(), n_context)
    )
    with np.errstate(all="ignore"):
        full, rounded = (_log_probs(each, start + ids, n_context) for each in (stepper, _rounded(stepper)))
        return nats_to_bits(float((np.exp(full) * (full - rounded)).sum(axis=-1).mean()))


def _rounded(stepper: RecurrentStepper) -> RecurrentStepper:
    """Return a model with its weights rounded to float16."""

    def half(array: NDArray[Any]) -> NDArray[np.float32]:
        return array.astype(np.float16).astype(np.float32)

    layers, inputs = stepper.layers, stepper.layers.inputs
    rounded = RecurrentLayers(
        layers.cell,
        [tuple(map(half, weights)) for weights in layers.cell_weights],
        InputLayer(half(inputs.embed), half(inputs.weight), half(inputs.bias), inputs.relu),
        [(half(weight), half(bias)) for weight, bias in layers.upper],
        layers.n_states,
    )
    return RecurrentStepper(rounded, [(half(weight), half(bias)) for weight, bias in stepper.head])


def _log_probs(stepper: RecurrentStepper, ids: Sequence[int], n_context: int | None) -> NDArray[Any]:
    """Return the log-probabilities after each character, float64, (N, V)."""
    stepper.reset()
    rows = []
    for i in range(n_context or 1, len(ids) + 1):
        if n_context is not None:
            stepper.reset()
        rows.append(stepper.read(ids[i - (n_context or 1) : i]))
    return log_softmax(np.array(rows))


def _line_limit(model: TextGenerator) -> dict[str, Any] | None:
    longest = model.metadata.longest_line
    if longest is None:
        return None
    limit = LineLimit(model.vocab, longest, [model.vocab.bos_id])
    return {"limits": limit.limits, "longest": longest, "line_break": limit.line_break}


def _unit(model: TextGenerator) -> str:
    return "byte" if model.metadata.is_bytes else "character"


def _summary(model: TextGenerator) -> str:
    metadata = model.metadata
    return f"A character-level language model ({metadata.model}) trained on {metadata.corpus.get('name', 'a text')}."


def _about(model: TextGenerator) -> list[tuple[str, str]]:
    """Return names and values for the page's last section."""
    metadata = model.metadata
    unit = _unit(model)
    rows = [
        ("architecture", metadata.model),
        ("options", ", ".join(f"{name} {value}" for name, value in metadata.options.items())),
        ("text", f"{metadata.corpus.get('name', '?')}, {metadata.corpus.get('n_chars', 0):,} {unit}s"),
        ("vocabulary", f"{len(model.vocab) - 1} {unit}s"),
    ]
    for part in ("valid", "test"):
        nats = metadata.result.get(f"{part}_nats")
        if nats is not None:
            rows.append((f"{part} part", f"{nats_to_bits(nats):.3f} bits per {unit}"))
    return rows

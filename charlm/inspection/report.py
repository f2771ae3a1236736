"""Report on a trained model, in sections: curves, embedding, head, units, saliency, gradient flow, n-gram experts.

Each section is a dictionary for JSON. Where an architecture (or an installation) has no such section, it is
{"omitted": reason}.

Shapes: N characters, T characters of a context, V vocab_size, K experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from charlm.errors import UsageError
from charlm.evaluation.metrics import nats_to_bits
from charlm.evaluation.protocol import TextRange, eval_mode
from charlm.generation.language_model import LanguageModel
from charlm.inspection.embedding import neighbours, principal_components
from charlm.inspection.experts import expert_names, expert_weights
from charlm.inspection.gradient_flow import N_PLACES, gradient_flow
from charlm.inspection.properties import PROPERTIES
from charlm.inspection.saliency import Context, integrated_gradients, is_complete, left_out, rank_correlation
from charlm.inspection.units import activations, best_units
from charlm.messages import no_bars

N_CHARS = 20_000  # for the units
N_SHOWN = 1_500  # characters of a text that is coloured
N_EXTREMES = 6  # characters named at the ends of an axis
N_NEIGHBOURS = 5
N_EXAMPLES = 30  # predictions in a row that are explained
CONTEXT_CHARS, WARMUP_CHARS = 32, 96  # T, and the characters read before them

Section = dict[str, Any]


def report(
    model: LanguageModel,
    text: TextRange,
    log: Sequence[dict[str, Any]] = (),
    n_examples: int = N_EXAMPLES,
    n_places: int = N_PLACES,
) -> dict[str, Section]:
    """Return the sections by name.

    Args:
        model: to inspect.
        text: to read, on the model's device; its first characters are used.
        log: lines of the run's metrics.jsonl.
        n_examples: predictions in a row that saliency explains.
        n_places: predictions over which gradient flow is averaged.
    """
    makers: dict[str, Callable[[], Section]] = {
        "curves": lambda: curves(log),
        "embedding": lambda: embedding(model),
        "head": lambda: head(model),
        "units": lambda: units(model, text),
        "saliency": lambda: saliency(model, text, n_examples),
        "gradient_flow": lambda: flow(model, text, n_places),
        "experts": lambda: experts(model, text),
    }
    sections: dict[str, Section] = {}
    for name in tqdm(makers, "inspecting", delay=2, leave=False, disable=no_bars(), dynamic_ncols=True):
        try:
            sections[name] = makers[name]()
        except UsageError as error:
            sections[name] = {"omitted": str(error)}
    return sections


def curves(log: Sequence[dict[str, Any]]) -> Section:
    """Return the losses of a training, [characters predicted, bits per character]."""
    found = {
        part: [
            [row["n_chars"], nats_to_bits(row[name])]
            for row in log
            if "n_chars" in row and math.isfinite(row.get(name, math.nan))
        ]
        for part, name in (("train", "train_nats"), ("valid", "valid_nats"))
    }
    if not found["train"]:
        raise UsageError("no metrics.jsonl of a training by gradient steps beside the checkpoint")
    return found


def embedding(model: LanguageModel) -> Section:
    """Return the embedding as a map, the ends of its axes, and the nearest neighbours of each character."""
    if not hasattr(model.model, "embed"):
        raise UsageError(f"{model.metadata.model} has no embedding")
    vectors = model.model.embed.weight.detach().float().cpu().numpy()[1:]
    points = model.vocab.codepoints.tolist()
    coordinates, shares = principal_components(vectors)
    rows, cosines = neighbours(vectors, min(N_NEIGHBOURS, len(points) - 1))
    orders = [np.argsort(axis).tolist() for axis, share in zip(coordinates.T, shares, strict=True) if share > 0]
    return {
        "codepoints": points,
        "coordinates": coordinates.round(4).tolist(),
        "variance_shares": shares.tolist(),
        "axis_ends": [
            {"low": [points[i] for i in order[:N_EXTREMES]], "high": [points[i] for i in order[::-1][:N_EXTREMES]]}
            for order in orders
        ],
        "neighbours": [
            [[points[j], cosine] for j, cosine in zip(*row, strict=True)]
            for row in zip(rows.tolist(), cosines.round(4).tolist(), strict=True)
        ],
    }


def head(model: LanguageModel) -> Section:
    """Return the bias of each character in the output layer, the highest first."""
    layers = [
        layer
        for layer in model.model.modules()
        if isinstance(layer, nn.Linear) and layer.out_features == len(model.vocab) and layer.bias is not None
    ]
    if not layers:
        raise UsageError(f"{model.metadata.model} has no output layer with biases")
    biases = layers[-1].bias.detach().float().cpu().numpy()[1:]
    points = model.vocab.codepoints.tolist()
    return {"biases": [[points[i], round(float(biases[i]), 4)] for i in np.argsort(-biases, kind="stable")]}


def units(model: LanguageModel, text: TextRange) -> Section:
    """Return the unit that detects each property best, and the activations of these units on the first characters."""
    part = replace(text, stop=min(text.stop, text.first + N_CHARS))
    values, chars = activations(model, part), _chars(model, part)
    found = best_units(values, {name: function(chars) for name, function in PROPERTIES.items()})
    shown = values[:N_SHOWN].astype(float).round(3)
    return {
        "n_chars": part.n_chars,
        "n_units": values.shape[1],
        "properties": [asdict(score) for score in found],
        "codepoints": list(map(ord, chars[:N_SHOWN])),
        "activations": {str(score.unit): shown[:, score.unit].tolist() for score in found},
    }


def saliency(model: LanguageModel, text: TextRange, n_examples: int = N_EXAMPLES) -> Section:
    """Return how much each of the T characters before a prediction mattered, for some predictions in a row.

    The explained character is the most probable one. `left_out` is in bits, `integrated` in logits; both from the
    nearest character to the farthest. `by_lag` is the mean of absolute values, as a share of their sum.
    """
    network, n_context = model.model, model.metadata.n_context
    length = min(n_context or CONTEXT_CHARS, CONTEXT_CHARS)  # T; the rest of a long window is only read
    start = text.first + (text.n_chars - n_examples) // 3
    if start - length < 0 or text.n_chars < n_examples:
        raise UsageError(f"saliency needs more than {length + n_examples} characters, got {text.n_chars}")
    ids, symbols = text.ids, _symbols(model)
    n_before = min(n_context - length if n_context else WARMUP_CHARS, start - length)
    contexts = []
    for place in range(start, start + n_examples):
        before, chars = ids[place - length - n_before : place].long().tensor_split([n_before])
        with eval_mode(network):
            logits, _ = network(torch.cat([before, chars]).unsqueeze(0), only_last=True)
        contexts.append(Context(before, chars, int(logits[0, -1, 1:].argmax()) + 1))
    bits = [left_out(network, context)[::-1] for context in _progress(contexts, "saliency, left out")]
    places: list[dict[str, Any]] = [
        {"predicted": ord(symbols[context.target]), "left_out": lost.round(4).tolist()}
        for context, lost in zip(contexts, bits, strict=True)
    ]
    section: Section = {
        "n_context": length,
        "codepoints": [ord(symbols[i]) for i in ids[start - length : start + n_examples].tolist()],
        "places": places,
        "by_lag": {"left_out": _shares_by_lag(bits)},
    }
    try:
        found = [
            integrated_gradients(network, context) for context in _progress(contexts, "saliency, integrated gradients")
        ]
    except UsageError as error:
        return section | {"note": str(error)}
    except ImportError:
        return section | {"note": "integrated gradients need captum: pip install 'charlm-torch[inspect]'"}
    for entry, (attributions, difference) in zip(places, found, strict=True):
        entry |= {"integrated": attributions[::-1].round(4).tolist(), "logit_difference": round(difference, 4)}
    gradients = [attributions[::-1] for attributions, _ in found]
    section["by_lag"]["integrated"] = _shares_by_lag(gradients)
    section["complete_places"] = sum(is_complete(*each) for each in found)
    if length > 1:
        pairs = zip(bits, gradients, strict=True)
        section["rank_correlation"] = float(np.median([rank_correlation(abs(a), abs(b)) for a, b in pairs]))
    return section


def _progress(contexts: Sequence[Context], name: str) -> Iterable[Context]:
    bar: Iterable[Context] = tqdm(contexts, name, delay=2, leave=False, disable=no_bars(), dynamic_ncols=True)
    return bar


def _shares_by_lag(values: Sequence[Any]) -> list[float]:
    mean = np.abs(values).mean(axis=0)
    result: list[float] = (mean / max(mean.sum(), 1e-12)).round(5).tolist()
    return result


def flow(model: LanguageModel, text: TextRange, n_places: int = N_PLACES) -> Section:
    """Return the norms of the gradient by lag and by layer; None for one that is not finite."""
    found = gradient_flow(model.model, text, n_places=n_places)
    if not np.isfinite(found.norms).any():
        raise UsageError(f"{model.metadata.model}: no gradient norm is finite")
    return {
        "lags": list(found.lags),
        "norms": [[norm if math.isfinite(norm) else None for norm in row] for row in found.norms.tolist()],
    }


def experts(model: LanguageModel, text: TextRange) -> Section:
    """Return the weight of each n-gram expert for the prediction after each of the first characters."""
    names = expert_names(model)
    if not names:
        raise UsageError(f"{model.metadata.model} has no n-gram experts")
    part = replace(text, stop=min(text.stop, text.first + N_SHOWN))
    weights = expert_weights(model, activations(model, part))
    return {
        "names": names,
        "codepoints": list(map(ord, _chars(model, part))),
        "means": weights.mean(axis=0).astype(float).round(4).tolist(),
        "weights": weights.T.astype(float).round(3).tolist(),
    }


def _symbols(model: LanguageModel) -> str:
    """Return the characters by their indices; bytes are decoded as Latin-1."""
    return "\ufffd" + model.vocab.symbols


def _chars(model: LanguageModel, text: TextRange) -> str:
    symbols = _symbols(model)
    return "".join(symbols[i] for i in text.ids[text.first : text.stop].tolist())

"""ONNX export: one step of a model as a graph, with the state as inputs and outputs.

    logits, next_state0, ... = step(chars, state0, ...)

The initial state consists of zeros, and the first character to read has the id `bos_id`. The state of a model with a
fixed window is the ids of its last characters minus `bos_id`, so that zeros are its initial state, too. Dynamic
dimensions are "batch" and "cached", the length of a key-value cache, which is 0 at first (transformer).

Shapes: B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.generation.language_model import LanguageModel
from charlm.models import CharModel, CountingModel
from charlm.models.base import State

MAX_WINDOW = 64  # characters; the graph has a step for each
MAX_BYTES = 2_000_000_000  # of weights; a protocol buffer has at most 2 GiB
KEY = "charlm"  # of the JSON in the metadata of the file
CHARS, LOGITS, STATE, NEXT = "chars", "logits", "state", "next_state"  # names or prefixes of inputs and outputs
TOLERANCE = 1e-4  # of logits, relative to the largest one if that is above 1
CHECK_STEPS, CHECK_TEXTS = 32, 3


def onnx_model(model: LanguageModel) -> bytes:
    """Return one step of a model as an ONNX file, after comparing its logits with those of the model.

    Args:
        model: without counts; a window has at most `MAX_WINDOW` characters.

    Returns:
        the file. Its graph maps chars, int64, (B,), and the state to logits, float32, (B, V), and the next state. Its
        metadata hold architecture, options, vocabulary, text and results as JSON.

    Raises:
        UsageError: the architecture cannot be exported, or the extra is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"ONNX export needs {error.name}; pip install 'charlm-torch[onnx]'") from None
    name = model.metadata.model
    _check_exportable(model)
    network = copy.deepcopy(model.model).to("cpu", torch.float32).eval()
    step = _Step(network, model.metadata.n_context, model.vocab.bos_id).eval()
    with torch.inference_mode(), _quiet():
        states, names = _example_state(step)
        n = len(states)
        try:
            program = torch.onnx.export(
                step,
                (torch.zeros(CHECK_TEXTS, dtype=torch.long), *states),
                dynamo=True,
                dynamic_shapes=({0: "batch"}, tuple(names)),
                input_names=[CHARS, *(f"{STATE}{i}" for i in range(n))],
                output_names=[LOGITS, *(f"{NEXT}{i}" for i in range(n))],
                verbose=False,
            )
        except Exception as error:  # PyTorch's exporter raises many types
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{name} cannot be exported to ONNX: {type(error).__name__}: {reason}") from error
    assert program is not None
    for output, dims in zip(program.model.graph.outputs[1:], names, strict=True):
        for i in (i for i, size in dims.items() if size == "cached"):
            assert output.shape is not None
            output.shape[i] = "next_cached"  # PyTorch names it by a formula
    program.model.metadata_props[KEY] = json.dumps(_metadata(model))
    data: bytes = program.model_proto.SerializeToString()
    difference = _difference(onnxruntime.InferenceSession(data), step, model.metadata.vocab_size)
    if not difference <= TOLERANCE:
        raise UsageError(f"{name} cannot be exported to ONNX: its logits would differ by {difference:.1e}")
    return data


def _check_exportable(model: LanguageModel) -> None:
    """Check a model before it is exported.

    Raises:
        UsageError: the model has counts, a long window, or too many weights.
    """
    name, n_context = model.metadata.model, model.metadata.n_context
    if any(isinstance(part, CountingModel) for part in model.model.modules()):
        raise UsageError(f"{name} cannot be exported to ONNX: it reads counts; export a network without counts")
    if n_context is not None and n_context > MAX_WINDOW:
        raise UsageError(
            f"{name} cannot be exported to ONNX: its window has {n_context} characters, at most {MAX_WINDOW} are "
            "possible; train with --feed stream"
        )
    if 4 * model.model.n_parameters > MAX_BYTES:
        raise UsageError(f"{name} cannot be exported to ONNX: its weights have more than {MAX_BYTES:,} bytes")


class _Step(nn.Module):
    """One step of a model, whose state is passed as separate tensors.

    Args:
        model: in evaluation mode.
        n_context: characters in a window; None for a model that carries its state.
        bos_id: id before the first character.
    """

    def __init__(self, model: CharModel, n_context: int | None, bos_id: int) -> None:
        super().__init__()
        self.model, self.n_context, self.bos_id = model, n_context, bos_id
        self.is_tuple = isinstance(self.state_after(1, 1, flat=False), tuple)

    def state_after(self, n_texts: int, n_chars: int, flat: bool = True) -> Any:
        """Return the state after `n_chars` times `bos_id`, as a tuple of tensors if `flat`."""
        chars = torch.full((n_texts, n_chars), self.bos_id)
        if self.n_context is not None:
            return (torch.zeros(n_texts, self.n_context - 1, dtype=torch.long),)
        state = self.model(chars)[1]
        return _flat(state) if flat else state

    def forward(self, chars: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read a character of each text, long, (B,), and return the logits, (B, V), and the next state."""
        chars = chars.unsqueeze(1)
        if self.n_context is not None:
            window = torch.cat([state[0] + self.bos_id, chars], dim=1)
            logits, _ = self.model(window, only_last=True)
            return logits[:, -1], window[:, 1:] - self.bos_id
        before: State = None if not state else state if self.is_tuple else state[0]
        logits, after = self.model(chars, before, only_last=True)
        return logits[:, -1], *_flat(after)


def _flat(state: State) -> tuple[Tensor, ...]:
    return () if state is None else (state,) if isinstance(state, Tensor) else tuple(state)


def _example_state(step: _Step) -> tuple[tuple[Tensor, ...], list[dict[int, str]]]:
    """Return a state of `CHECK_TEXTS` texts, and the names of the dynamic dimensions of each of its tensors."""
    states, one_text_less, one_char_less = (
        step.state_after(n, t) for n, t in ((CHECK_TEXTS, 2), (CHECK_TEXTS - 1, 2), (CHECK_TEXTS, 1))
    )
    names = []
    for full, fewer, shorter in zip(states, one_text_less, one_char_less, strict=True):
        dims = range(full.dim())
        names.append(
            {i: "batch" for i in dims if full.shape[i] != fewer.shape[i]}
            | {i: "cached" for i in dims if full.shape[i] != shorter.shape[i]}
        )
    return states, names


def initial_state(session: Any, n_texts: int) -> dict[str, NDArray[Any]]:
    """Return the initial state, by the names of the inputs.

    Args:
        session: `onnxruntime.InferenceSession`.
        n_texts: B.
    """
    sizes = {"batch": n_texts, "cached": 0}
    types = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
    return {
        node.name: np.zeros([sizes.get(n, n) for n in node.shape], types[node.type])
        for node in session.get_inputs()[1:]
    }


@torch.inference_mode()
def _difference(session: Any, step: _Step, vocab_size: int) -> float:
    """Return the largest difference of a logit from the model's, relative to the largest logit if that is above 1."""
    generator = np.random.default_rng(0)
    state = initial_state(session, CHECK_TEXTS)
    expected_state: State = None
    window = np.full((CHECK_TEXTS, step.n_context or 1), step.bos_id)
    largest, difference = 1.0, 0.0
    for _ in range(CHECK_STEPS):
        chars = generator.integers(0, vocab_size, CHECK_TEXTS)
        logits, *after = session.run(None, {CHARS: chars, **state})
        state = dict(zip(state, after, strict=True))
        window = np.concatenate([window[:, 1:], chars[:, None]], axis=1)
        before = expected_state if step.n_context is None else None
        expected, expected_state = step.model(torch.from_numpy(window), before, only_last=True)
        largest = max(largest, float(expected.abs().max()))
        difference = float(np.maximum(difference, np.abs(logits - expected[:, -1].numpy()).max()))  # NaN stays
    return difference / largest


def _metadata(model: LanguageModel) -> Mapping[str, Any]:
    """Return the metadata of a model that a program needs to run it."""
    kept = asdict(model.metadata)
    for key in ("resume", "recipe", "counters"):
        del kept[key]
    return kept | {"lower": model.metadata.is_lower, "bos_id": model.vocab.bos_id}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings of PyTorch's exporter, which concern its own code."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

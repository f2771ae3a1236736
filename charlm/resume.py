"""All that a training needs to go on as if nothing had happened, beside the weights.

Optimiser, hidden states, random generators, counters, and what callbacks keep are one tree of dictionaries, lists,
tuples, numbers and tensors. For a checkpoint, the tree becomes JSON and the tensors get names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charlm.fit import Callback, Run
from charlm.models.base import to_device

PREFIX = "resume/"  # of the names of these tensors, to tell them from weights
COUNTERS = ("epoch", "step_in_epoch", "step", "n_skipped", "n_chars", "sum_nats", "seconds")


def snapshot(run: Run, callbacks: Sequence[Callback]) -> tuple[Any, dict[str, Tensor]]:
    """Return what is to be stored: JSON, and tensors by name.

    Args:
        run: between two steps.
        callbacks: all of the training.
    """
    tree = {
        "counters": {name: getattr(run, name) for name in COUNTERS},
        "finished": not run.interrupted and (run.stop or run.epoch >= run.n_epochs),
        "states": run.states,
        "optimizer": run.optimizer.state_dict(),
        "generators": _generators(run.model.device),
        "callbacks": [
            [type(callback).__name__, {name: getattr(callback, name) for name in callback.kept}]
            for callback in callbacks
            if callback.kept
        ],
        "made_with": _made_with(run.model.device),
    }
    tensors: dict[str, Tensor] = {}
    return _pack(tree, tensors), tensors


def restore(run: Run, callbacks: Sequence[Callback], packed: Any, tensors: dict[str, Tensor]) -> list[str]:
    """Put a training back to where `snapshot` was taken; the weights are the caller's business.

    Args:
        run: made from the same recipe and text.
        callbacks: all of the training, fresh.
        packed: as `snapshot` returned it.
        tensors: likewise; others are passed over.

    Returns:
        what is not as it was then (torch, device, threads), so that rounding may differ.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: this is no snapshot of such a training.
    """
    tree = _unpack(packed, tensors)
    device = run.model.device
    counters = tree["counters"]
    run.seconds_before = counters.pop("seconds")
    for name, value in counters.items():
        setattr(run, name, to_device(value, device))
    run.stop = tree["finished"]
    run.states = [to_device(state, device) for state in tree["states"]]
    run.optimizer.load_state_dict(tree["optimizer"])
    keeping = [callback for callback in callbacks if callback.kept]
    for callback, (name, values) in zip(keeping, tree["callbacks"], strict=True):
        if type(callback).__name__ != name or set(values) != set(callback.kept):
            raise ValueError(f"it has {name} where {type(callback).__name__} is needed")
        for key, value in values.items():
            setattr(callback, key, to_device(value, device))
    torch.set_rng_state(tree["generators"]["cpu"])
    if device.type == "cuda" and "cuda" in tree["generators"]:
        torch.cuda.set_rng_state(tree["generators"]["cuda"], device)
    now, then = _made_with(device), tree["made_with"]
    return [f"{what}: {then[what]} then, {now[what]} now" for what in now if now[what] != then[what]]


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's random generators."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state()} | on_gpu


def _made_with(device: torch.device) -> dict[str, str]:
    """Return what the rounding of a sum may depend on."""
    return {"torch": torch.__version__, "device": device.type, "threads": str(torch.get_num_threads())}


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a tree as JSON, and put its tensors, as they are on the CPU, into `tensors`."""
    if isinstance(value, Tensor):
        name = f"{PREFIX}{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, tuple):
        return {"tuple": [_pack(part, tensors) for part in value]}
    if isinstance(value, list):
        return [_pack(part, tensors) for part in value]
    if isinstance(value, dict):
        return {"dict": [[_pack(key, tensors), _pack(part, tensors)] for key, part in value.items()]}
    return value


def _unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the tree that `_pack` was given."""
    if isinstance(packed, list):
        return [_unpack(part, tensors) for part in packed]
    if not isinstance(packed, dict):
        return packed
    [(kind, content)] = packed.items()
    if kind == "tensor":
        return tensors[content].clone()  # training changes them in place
    parts = _unpack(content, tensors)
    return tuple(parts) if kind == "tuple" else dict(parts)

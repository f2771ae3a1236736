"""Snapshot of a training: what a bit-exact resume needs in addition to the weights.

Optimiser, hidden states, random generators, counters and the callbacks' attributes form one tree of dictionaries,
lists, tuples, numbers and tensors. In a checkpoint the tree is JSON, and each tensor is stored under a name. Hidden
states and generators are those of all processes, everything else is that of rank 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charlm.errors import CheckpointError
from charlm.models.base import to_device
from charlm.training import distributed
from charlm.training.loop import Callback, TrainState

FORMAT = 2
PREFIX = "resume/"  # of the names of these tensors; weights' names have no slash
COUNTERS = ("epoch", "step_in_epoch", "step", "n_chars", "sum_nats")


def snapshot(state: TrainState, callbacks: Sequence[Callback]) -> tuple[Any, dict[str, Tensor]]:
    """Return the snapshot as JSON, and its tensors by name.

    Args:
        state: between two steps. All processes call this; rank 0 returns the whole snapshot.
        callbacks: all callbacks of the training.
    """
    ranks = distributed.gather((state.hidden, _generators(state.model.device)))
    tree = {
        "format": FORMAT,
        "counters": {name: getattr(state, name) for name in COUNTERS},
        "seconds": state.timer.seconds,
        "finished": state.ended and not state.interrupted,
        "hidden": [hidden for hidden, _ in ranks],
        "generators": [generators for _, generators in ranks],
        "optimizer": state.optimizer.state_dict(),
        "callbacks": [
            [type(callback).__name__, {name: getattr(callback, name) for name in callback.state_attrs}]
            for callback in callbacks
            if callback.state_attrs
        ],
        "environment": _environment(state.model.device),
    }
    tensors: dict[str, Tensor] = {}
    return _pack(tree, tensors), tensors


def restore(state: TrainState, callbacks: Sequence[Callback], packed: Any, tensors: dict[str, Tensor]) -> list[str]:
    """Restore a training from its snapshot; the caller restores the weights.

    With another number of processes the hidden states start from their initial values.

    Args:
        state: made from the same recipe and text.
        callbacks: all callbacks of the training, newly created.
        packed: JSON that `snapshot` returned.
        tensors: tensors that `snapshot` returned; others are ignored.

    Returns:
        differences of the environment (torch, device, threads, processes), each with its consequence.

    Raises:
        CheckpointError: the snapshot has another format.
        ValueError, KeyError, TypeError, AttributeError: this is not a snapshot of such a training.
    """
    tree = _unpack(packed, tensors)
    if (found := tree.get("format", 1)) != FORMAT:
        raise CheckpointError(
            f"was saved by another version of charlm (snapshot format {found}, this version reads {FORMAT}); "
            "train again, or resume with that version"
        )
    device = state.model.device
    for name in COUNTERS:
        _check_like(tree["counters"][name], getattr(state, name), state, name)
        setattr(state, name, to_device(tree["counters"][name], device))
    if state.step_in_epoch > len(state.feed):
        raise ValueError(f"step_in_epoch is {state.step_in_epoch} of {len(state.feed)}")
    _check_like(tree["seconds"], 0.0, state, "seconds")
    _check_like(tree["finished"], False, state, "finished")
    state.timer.synced_seconds = tree["seconds"]
    state.stop = tree["finished"]
    state.optimizer.load_state_dict(tree["optimizer"])
    for parameter, moments in state.optimizer.state.items():
        for moment in moments.values():
            like = (moment.shape, moment.dtype) if isinstance(moment, Tensor) and moment.dim() else None
            if like not in (None, (parameter.shape, parameter.dtype)):
                raise ValueError("the optimiser's state is of another shape or type than the weights")
    stateful = [callback for callback in callbacks if callback.state_attrs]
    for callback, (name, values) in zip(stateful, tree["callbacks"], strict=True):
        if type(callback).__name__ != name or set(values) != set(callback.state_attrs):
            raise ValueError(f"it has {name} instead of {type(callback).__name__}")
        for key, value in values.items():
            _check_like(value, getattr(callback, key), state, f"{name}.{key}")
            setattr(callback, key, to_device(value, device))
    rank, n_then = distributed.rank(), len(tree["hidden"])
    state.hidden = to_device(tree["hidden"][rank], device) if n_then == distributed.world_size() else None
    if rank < n_then:  # an additional process keeps the generators that were seeded for it
        generators = tree["generators"][rank]
        torch.set_rng_state(generators["cpu"])
        if device.type == "cuda" and "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"], device)
    then, now = tree["environment"], _environment(device)
    consequence = {"processes": "hidden states start from zero"}
    return [
        f"{key}: {then[key]} then, {now[key]} now; {consequence.get(key, 'results may differ by rounding')}"
        for key in then
        if now[key] != then[key]
    ]


def _check_like(value: Any, fresh: Any, state: TrainState, name: str) -> None:
    """Check that a restored value is of the kind of that of a new training.

    Args:
        value: a number at least 0 or a tensor of one, None, a Boolean, or a list of numbers or of tensors like the
            weights.
        fresh: the value of a new training, of the same kind; that of a number may be None, and that of a list is empty.
        state: of the new training.
        name: for the message.

    Raises:
        ValueError: it is of another kind.
    """

    def is_number(part: Any) -> bool:
        if isinstance(part, Tensor):
            return part.shape == () and part.is_floating_point()
        return type(part) in ((int,) if type(fresh) is int else (int, float)) and part >= 0

    if isinstance(fresh, bool):
        is_valid = isinstance(value, bool)
    elif isinstance(fresh, list):
        like = [(parameter.shape, parameter.dtype) for parameter in state.model.parameters()]
        is_valid = isinstance(value, list) and (
            all(is_number(part) for part in value)
            or all(isinstance(part, Tensor) for part in value)
            and [(part.shape, part.dtype) for part in value] == like
        )
    else:
        is_valid = (value is None and fresh is None) or is_number(value)
    if not is_valid:
        raise ValueError(f"{name} is {str(value)[:40]!r}")


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's random generators."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state()} | on_gpu


def _environment(device: torch.device) -> dict[str, str]:
    """Return the properties that rounding depends on."""
    counts = {"threads": str(torch.get_num_threads()), "processes": str(distributed.world_size())}
    return {"torch": torch.__version__, "device": device.type} | counts


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a tree as JSON, and add copies of its tensors on the CPU to `tensors`."""
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
    """Return the tree that `_pack` converted to JSON."""
    if isinstance(packed, list):
        return [_unpack(part, tensors) for part in packed]
    if not isinstance(packed, dict):
        return packed
    [(kind, content)] = packed.items()
    if kind == "tensor":
        return tensors[content].clone()  # training changes it in place
    parts = _unpack(content, tensors)
    return tuple(parts) if kind == "tuple" else dict(parts)

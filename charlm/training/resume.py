"""All that a training needs to go on as if nothing had happened, beside the weights.

Optimiser, hidden states, random generators, counters, and what callbacks keep are one tree of dictionaries, lists,
tuples, numbers and tensors. For a checkpoint, the tree becomes JSON and the tensors get names. Of several processes,
the states and generators of all are kept, and of the first what is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charlm.evaluation.metrics import eval_mode
from charlm.models.base import CharModel, State, to_device
from charlm.training import distributed
from charlm.training.loop import Callback, TrainState

PREFIX = "resume/"  # of the names of these tensors, to tell them from weights
COUNTERS = ("epoch", "step_in_epoch", "step", "n_skipped", "n_chars", "sum_nats", "seconds")


def snapshot(run: TrainState, callbacks: Sequence[Callback]) -> tuple[Any, dict[str, Tensor]]:
    """Return what is to be stored: JSON, and tensors by name.

    Args:
        run: between two steps. All processes call this; what the first one returns is of all of them.
        callbacks: all of the training.
    """
    everyone = distributed.gather((run.states, _generators(run.model.device)))
    tree = {
        "counters": {name: getattr(run, name) for name in COUNTERS},
        "finished": not run.interrupted and run.ended,
        "states": [state for states, _ in everyone for state in states],
        "optimizer": run.optimizer.state_dict(),
        "generators": everyone[0][1],
        "other_generators": [generators for _, generators in everyone[1:]],
        "callbacks": [
            [type(callback).__name__, {name: getattr(callback, name) for name in callback.state_attrs}]
            for callback in callbacks
            if callback.state_attrs
        ],
        "made_with": _made_with(run.model.device),
    }
    tensors: dict[str, Tensor] = {}
    return _pack(tree, tensors), tensors


def restore(run: TrainState, callbacks: Sequence[Callback], packed: Any, tensors: dict[str, Tensor]) -> list[str]:
    """Put a training back to where `snapshot` was taken; the weights are the caller's business.

    Args:
        run: made from the same recipe and text.
        callbacks: all of the training, fresh.
        packed: as `snapshot` returned it.
        tensors: likewise; others are passed over.

    Returns:
        what is not as it was then (torch, device, threads, processes), so that rounding may differ.

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
    run.states = to_device(own_states(tree["states"], run.model, run.accumulate), device)
    run.optimizer.load_state_dict(tree["optimizer"])
    keeping = [callback for callback in callbacks if callback.state_attrs]
    for callback, (name, values) in zip(keeping, tree["callbacks"], strict=True):
        if type(callback).__name__ != name or set(values) != set(callback.state_attrs):
            raise ValueError(f"it has {name} where {type(callback).__name__} is needed")
        for key, value in values.items():
            setattr(callback, key, to_device(value, device))
    generators = [tree["generators"], *tree.get("other_generators", [])]
    if distributed.rank() < len(generators):  # a process that was not there then draws its own numbers
        own = generators[distributed.rank()]
        torch.set_rng_state(own["cpu"])
        if device.type == "cuda" and "cuda" in own:
            torch.cuda.set_rng_state(own["cuda"], device)
    now, then = _made_with(device), tree["made_with"]
    return [f"{what}: {then[what]} then, {now[what]} now" for what in then if now[what] != then[what]]


def own_states(states: list[State], model: CharModel, n_pieces: int) -> list[State]:
    """Return this process's part of the states of a whole batch, whatever number of processes left them.

    Args:
        states: of all pieces of all processes, in the order of the rows; None for a piece that was not read.
        model: whose states they are.
        n_pieces: in which a process reads its rows, then and now.

    Returns:
        a state for each piece of this process.
    """
    if len(states) == n_pieces * distributed.world_size():
        return states[distributed.rank() * n_pieces : (distributed.rank() + 1) * n_pieces]
    read = [state for state in states if state is not None]
    own = _deal(read, _batch_axes(model), n_pieces) if read else []
    return own + [None] * (n_pieces - len(own))


def _batch_axes(model: CharModel) -> Any:
    """Return, in the place of each tensor of a state, which of its axes is B; None where none is."""

    def axes(one: State, two: State) -> Any:
        if isinstance(one, tuple):
            return tuple(axes(*parts) for parts in zip(one, two, strict=True))
        if not isinstance(one, Tensor):
            return None
        return next((i for i in range(one.dim()) if one.shape[i] != two.shape[i]), None)

    with eval_mode(model):
        return axes(*(model(torch.zeros(n, 2, dtype=torch.long, device=model.device))[1] for n in (1, 2)))


def _deal(states: list[State], axes: Any, n_pieces: int) -> list[State]:
    """Join states along their batch axes and return this process's rows of them, in pieces."""
    if axes is None or all(state is None for state in states):  # no batch in it, or nothing kept while training
        return states[:1] * n_pieces
    if isinstance(axes, tuple):
        parts = [_deal([state[i] for state in states], axis, n_pieces) for i, axis in enumerate(axes)]
        return list(zip(*parts, strict=False))
    whole = torch.cat(states, axes)
    first, stop = distributed.shard_bounds(whole.shape[axes])
    return [piece.contiguous() for piece in whole.narrow(axes, first, stop - first).chunk(n_pieces, axes)]


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's random generators."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state()} | on_gpu


def _made_with(device: torch.device) -> dict[str, str]:
    """Return what the rounding of a sum may depend on."""
    counts = {"threads": str(torch.get_num_threads()), "processes": str(distributed.world_size())}
    return {"torch": torch.__version__, "device": device.type} | counts


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

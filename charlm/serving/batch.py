"""Continuous batching: one step samples a character of every text; texts join and leave between steps.

The texts of a group share one stepper, whose state has a row for each text. Texts whose states have the same shape form
one group. For a model with a key-value cache, these are the texts with caches of the same length.

Shapes: B texts of a group, V vocab_size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from charlm.generation.numpy_ngrams import LSTMNGramStepper
from charlm.generation.numpy_recurrent import RecurrentStepper
from charlm.generation.sampler import Stepper
from charlm.generation.torch_stepper import TorchStepper
from charlm.serving.lanes import Lane
from charlm.serving.scheduler import is_expired

State = Any  # an array or a tensor, a nested list or tuple of them, or None


def set_state(stepper: Stepper, state: State, n_texts: int) -> None:
    """Set the state of a stepper to that of `n_texts` texts."""
    stepper.state = state
    if isinstance(stepper, TorchStepper):
        stepper.n_texts = n_texts


def map_leaves(function: Callable[..., Any], *states: State) -> State:
    """Apply a function to the corresponding arrays of states."""
    if isinstance(states[0], (list, tuple)):
        return type(states[0])(map_leaves(function, *parts) for parts in zip(*states, strict=True))
    return None if states[0] is None else function(*states)


def batch_axes(stepper: Stepper, bos_id: int) -> State | None:
    """Return the batch axis of each array in a state, found by comparing the states of one text and of two.

    Returns:
        the axes, nested like the state; None if an array has no batch axis, so that states cannot be concatenated.
    """
    states = []
    for n_texts in (1, 2):
        probe = stepper.fresh()
        if isinstance(probe, TorchStepper):
            probe.n_texts = n_texts
        probe.freeze_cache()
        probe.read([np.full(n_texts, bos_id)] * 2)
        states.append(probe.state)
    try:
        return map_leaves(_axis, *states)
    except (AttributeError, TypeError, ValueError):
        return None


def _axis(one: Any, two: Any) -> int:
    """Return the axis in which two shapes differ."""
    (axis,) = [i for i, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
    return axis


class Group:
    """Texts with one state.

    Args:
        lanes: the texts.
        stepper: has read their prompts, except for `Lane.pending`.
        axes: see `batch_axes`.
    """

    def __init__(self, lanes: list[Lane], stepper: Stepper, axes: State) -> None:
        self.lanes, self.stepper, self.axes = lanes, stepper, axes

    @property
    def key(self) -> Any:
        """Shapes of the state without the batch axis; groups with equal keys can be merged."""
        state = self.stepper.state
        if self.lanes[0].n_context is not None or state is None:
            return state is None
        shapes: list[Any] = []
        map_leaves(lambda leaf, axis: shapes.append((*leaf.shape[:axis], *leaf.shape[axis + 1 :])), state, self.axes)
        return tuple(shapes)

    def merge(self, others: Sequence[Group]) -> None:
        """Add the texts of other groups with the same key."""
        states = [group.stepper.state for group in (self, *others)]
        self.lanes += [lane for group in others for lane in group.lanes]
        if self.lanes[0].n_context is None and states[0] is not None:
            states[0] = map_leaves(lambda axis, *leaves: _concatenate(leaves, axis), self.axes, *states)
        set_state(self.stepper, states[0], len(self.lanes))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only the texts of the given rows."""
        if len(rows) == len(self.lanes):
            return
        state = self.stepper.state
        if self.lanes[0].n_context is None:
            state = map_leaves(lambda leaf, axis: _take(leaf, rows, axis), state, self.axes)
        self.lanes = [self.lanes[i] for i in rows]
        set_state(self.stepper, state, len(rows))

    def step(self) -> None:
        """Read a character of each text (or its window), and sample the next one if the prompt has been read."""
        n_read = self.lanes[0].n_context or 1
        chars = np.array([lane.pending[:n_read] for lane in self.lanes])  # (B, 1) or (B, n_context)
        if self.lanes[0].n_context is not None:
            self.stepper.reset()
        logits = self.stepper.read(list(chars.T))
        sampled: dict[int, int] = {}
        for params, rows in self._sampling_rows().items():
            uniforms = np.array([next(self.lanes[i].uniform) for i in rows])
            sampled |= zip(rows, params.sample(logits[rows], uniforms).tolist(), strict=True)
            if isinstance(self.stepper, LSTMNGramStepper) and params.cache_model != "own":
                for reader in self.stepper.readers[rows]:  # before the model reads what was sampled
                    reader.freeze()
        remaining = []
        for i, lane in enumerate(self.lanes):
            if i not in sampled:
                lane.pending = lane.pending[1:]
                remaining.append(i)
                continue
            index = sampled[i] if lane.line_limit is None else lane.line_limit.apply(sampled[i])
            lane.pending = [*lane.pending, index][-n_read:]
            if not lane.accept(index, logits[i]):
                remaining.append(i)
        self.keep(remaining)

    def _sampling_rows(self) -> dict[Any, list[int]]:
        """Return the rows that have read their prompts, by sampling parameters."""
        rows = defaultdict(list)
        for i, lane in enumerate(self.lanes):
            if len(lane.pending) == (lane.n_context or 1):
                rows[lane.params].append(i)
        return rows


class LaneBatch:
    """All batched texts of a model.

    Args:
        axes: see `batch_axes`.
    """

    def __init__(self, axes: State) -> None:
        self.axes = axes
        self.groups: list[Group] = []

    def __len__(self) -> int:
        """Return the number of texts."""
        return sum(len(group.lanes) for group in self.groups)

    def add(self, lane: Lane, stepper: Stepper) -> None:
        """Add a text.

        Args:
            lane: the text.
            stepper: has read its prompt, except for `Lane.pending`.
        """
        if isinstance(stepper, (RecurrentStepper, LSTMNGramStepper)):  # the state of one text has no batch axis
            stepper.layers.states = map_leaves(lambda leaf: leaf.reshape(1, -1), stepper.layers.states)
        self.groups.append(Group([lane], stepper, self.axes))

    def clear(self) -> None:
        """Remove all texts."""
        self.groups = []

    def step(self) -> None:
        """Advance each text by one character; remove the texts of requests that have ended."""
        for group in self.groups:
            group.keep([i for i, lane in enumerate(group.lanes) if not is_expired(lane.job)])
        self.groups = [group for group in self.groups if group.lanes]
        by_key = defaultdict(list)
        for group in self.groups:
            by_key[group.key].append(group)
        self.groups = [groups[0] for groups in by_key.values()]
        for first, *others in by_key.values():
            if others:
                first.merge(others)
            first.step()
        self.groups = [group for group in self.groups if group.lanes]


def _concatenate(leaves: Sequence[Any], axis: int) -> Any:
    if isinstance(leaves[0], np.ndarray):
        return np.concatenate(leaves, axis)
    return torch.cat(list(leaves), axis)


def _take(leaf: Any, rows: Sequence[int], axis: int) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf.take(rows, axis)
    return leaf.index_select(axis, torch.tensor(rows, dtype=torch.long, device=leaf.device))

"""Compiled training step: torch.compile fuses operations, and a CUDA graph replays all kernels with a single launch.

In eager mode, the CPU launches each kernel of a step. A step of a small recurrent model has hundreds of kernels of a
few microseconds each, and the GPU waits for the next launch most of the time.

- Models with `nn.RNN`, `nn.GRU` or `nn.LSTM`, which call cuDNN: CUDA graph only; torch.compile does not optimise cuDNN.
- Models with `ScratchLayers`: torch.compile of the cell only. It takes seconds; the unrolled loop over 64 steps takes
  minutes.
- All others: torch.compile of the model.

Forward pass, loss and backward pass are in the graph; callbacks and the optimiser are not. So a callback may change the
learning rate, the momentum, the weights, the gradients, and which weights are trained. It must not change anything else
that the step reads (a dropout rate, the loss function, a hook): a graph replays the values at its capture.

Reference: CUDA graphs in PyTorch, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from charlm.models.base import CharModel, State
from charlm.models.layers.scratch import ScratchLayers
from charlm.training.loop import Model, Shard, TrainState, compute_gradients

N_WARM_UP = 3  # consecutive batches of one shape before the step is captured
MAX_GRAPHS = 8  # further shapes run compiled, without a graph
Key = tuple[Any, ...]


class CompiledStep:
    """`compute_gradients`, compiled for the shapes that occur in many batches.

    A shape is compiled from its second consecutive batch on; other batches (a shorter last one) run in eager mode. On a
    GPU, the loss and the gradients are overwritten by the next step; clone them to keep them. If compilation or capture
    fails, `report` is called once and the training continues in eager mode.

    Args:
        model: the model of the training.
        report: called with one line when compilation begins, and if it fails.
        backend: torch.compile backend.
    """

    def __init__(self, model: CharModel, report: Callable[[str], None], backend: str = "inductor") -> None:
        self.report, self.on_gpu = report, model.device.type == "cuda"
        self.model: Model = model
        self.cells: dict[ScratchLayers, Callable[..., Any]] = {}
        self.uses_torch_compile = not any(isinstance(part, nn.RNNBase) for part in model.modules())
        if self.uses_torch_compile:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # raised inside torch.compile
                # A function is compiled at most 8 times in a process, and earlier trainings count.
                torch.compiler.reset()
                compiled = partial(torch.compile, dynamic=False, backend=backend)
                self.cells = {part: compiled(part.cell) for part in model.modules() if isinstance(part, ScratchLayers)}
                self.model = model if self.cells else compiled(model)
        self.failed = self.announced = False
        self.graphs: dict[Key, GraphedStep] = {}
        self._key: Key = ()
        self._n_consecutive = 0

    def __call__(self, state: TrainState, model: Model) -> None:
        """Compute the gradients; see `compute_gradients`."""
        key = _key(state)
        self._n_consecutive = self._n_consecutive + 1 if key == self._key else 1
        self._key = key
        if graph := self.graphs.get(key):
            graph.replay(state)
        elif self.failed or self._n_consecutive == 1:
            compute_gradients(state, model)
        else:
            hidden = state.hidden
            try:
                self._compile(state, key)
            except Exception as error:  # of any part of the compiler
                self.failed = True
                reason = " ".join(str(error).split()).partition(" Set TORCHDYNAMO")[0][:200]
                self.report(f"--compile: {type(error).__name__}: {reason}; the training continues without it")
            if self.failed:  # here, where the error no longer keeps the tensors of the failed step
                state.hidden = hidden
                self.graphs.clear()
                compute_gradients(state, model)

    def _compile(self, state: TrainState, key: Key) -> None:
        """Compute the gradients by the compiled model; capture the step after the warm-up."""
        if self.uses_torch_compile and not self.announced:
            self.announced = True
            self.report("compiling the training step; this can take a minute")
        # A graph reads contiguous copies; inputs with other strides would trigger another compilation.
        batch, state.hidden = state.batch, _map(Tensor.contiguous, state.hidden)
        batch.chars, batch.targets = batch.chars.contiguous(), batch.targets.contiguous()
        with self._compiled_cells(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised inside torch.compile
            if not self.on_gpu:
                compute_gradients(state, self.model)
            elif self._n_consecutive <= N_WARM_UP or len(self.graphs) == MAX_GRAPHS:
                with _side_stream():
                    compute_gradients(state, self.model)
            else:
                graph = GraphedStep(state, self.model)
                graph.replay(state)
                self.graphs[key] = graph

    @contextmanager
    def _compiled_cells(self) -> Iterator[None]:
        """Let hand-written layers call compiled cells within a block."""
        eager = {layers: layers.cell for layers in self.cells}
        for layers, cell in self.cells.items():
            layers.cell = cell
        try:
            yield
        finally:
            for layers, cell in eager.items():
                layers.cell = cell


class GraphedStep:
    """A CUDA graph of `compute_gradients` for batches of one shape.

    The graph reads and writes fixed addresses: the batch and the hidden state are copied there before each replay, and
    the gradients, the loss and the next hidden state are valid until the next replay.

    Args:
        state: with a batch; its hidden state stays that before the batch. Its gradients are undefined until `replay`.
        model: see `compute_gradients`.
    """

    def __init__(self, state: TrainState, model: Model) -> None:
        batch, hidden = state.batch, state.hidden
        self.parameters = list(state.model.parameters())
        self.batch = Shard(batch.chars.clone(), batch.targets.clone(), batch.n_chars, batch.weight)
        self.hidden = _map(Tensor.clone, hidden)
        state.batch, state.hidden = self.batch, self.hidden
        state.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with _clean_failure(state.model.device), torch.cuda.graph(self.graph):
                compute_gradients(state, model)
            self.next_hidden = _map(Tensor.detach, state.hidden)
        finally:
            state.batch, state.hidden = batch, hidden
        self.gradients = [parameter.grad for parameter in self.parameters]

    def replay(self, state: TrainState) -> None:
        """Compute the gradients of `state.batch`."""
        self.batch.chars.copy_(state.batch.chars)
        self.batch.targets.copy_(state.batch.targets)
        for target, source in zip(_tensors(self.hidden), _tensors(state.hidden), strict=True):
            target.copy_(source)
        self.graph.replay()
        state.hidden, state.batch.loss, state.batch.metrics = self.next_hidden, self.batch.loss, self.batch.metrics
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


def _key(state: TrainState) -> Key:
    """Return shapes and `requires_grad` flags; a graph is valid only for equal ones."""
    batch = state.batch
    trained = tuple(parameter.requires_grad for parameter in state.model.parameters())
    return (batch.chars.shape, batch.targets.shape, _map(lambda part: part.shape, state.hidden), trained)


def _map(function: Callable[[Tensor], Any], state: State) -> Any:
    """Apply a function to each tensor of a state."""
    if isinstance(state, Tensor):
        return function(state)
    return None if state is None else tuple(_map(function, part) for part in state)


def _tensors(state: State) -> Iterator[Tensor]:
    """Yield the tensors of a state."""
    if isinstance(state, Tensor):
        yield state
    elif state is not None:
        for part in state:
            yield from _tensors(part)


@contextmanager
def _side_stream() -> Iterator[None]:
    """Run a block on another stream than the current one, as the warm-up of a capture requires."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def _clean_failure(device: torch.device) -> Iterator[None]:
    """Restore the current stream and the random generator after a failed capture, which leaves both in capture mode."""
    stream, generator = torch.cuda.current_stream(device), torch.cuda.default_generators[device.index or 0]
    before = generator.clone_state()
    try:
        yield
    except BaseException:
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(before)
        raise

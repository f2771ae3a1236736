"""The compiled training step: the same numbers as in eager mode, for every architecture, and a fallback."""

import pytest
import torch
from architectures import ARCHITECTURES, known_options, make_model

from charlm.data.feeds import Chunks, Stream, Windows
from charlm.models import find
from charlm.models.counting import fit_counts, training_span
from charlm.training import callbacks
from charlm.training.compiled import CompiledStep
from charlm.training.loop import TrainState, fit

pytestmark = pytest.mark.usefixtures("example_model")
GRADIENTS = [name for name, architecture in ARCHITECTURES.items() if architecture.uses_gradients]
V, T, B = 12, 8, 3
SMALL = {"n_embed": 8, "n_hidden": 8, "n_layers": 1, "head_size": 4, "window_size": T, "n_heads": 2, "n_state": 4}
SMALL |= {"folded_words": True}  # the option of `quick`


def make(name, feed=None, compiled=True, backend="aot_eager", **options):
    """Return a training of seven steps an epoch, the last one shorter, and the messages of the compiled step."""
    torch.manual_seed(0)
    ids = torch.randint(V, (B * (6 * T + 3) + 1,), dtype=torch.uint8)
    model = make_model(name, V, **known_options(name, SMALL) | options)
    fit_counts(model, ids)
    ids = training_span(model, ids)
    if (feed or find(name).default_feed) == "windows":
        batches = Windows(ids, find(name).n_context or T, 25)
    else:
        batches = Chunks(ids, T, B) if feed == "chunks" else Stream(ids, T, B)
    state = TrainState(model, batches, torch.optim.SGD(model.parameters(), 0.1), n_epochs=2)
    messages = []
    if compiled:
        state.gradient_step = CompiledStep(model, messages.append, backend)
    return state, messages


def trained(*arguments, make_callbacks=lambda state: [], **options):
    """Return losses and weights after a training, and the messages."""
    state, messages = make(*arguments, **options)
    torch.manual_seed(1)
    fit(state, make_callbacks(state))
    return state.sum_nats, [p.detach() for p in state.model.parameters()], messages


def assert_equal_to_eager(*arguments, **options):
    """Compare a compiled training with an eager one; return its messages."""
    nats, weights, messages = trained(*arguments, **options)
    torch.testing.assert_close((nats, weights), trained(*arguments, compiled=False, **options)[:2])
    return messages


def assert_compiled_equals_eager(*arguments, **options):
    """The same, where no part of the compiler fails."""
    assert not [message for message in assert_equal_to_eager(*arguments, **options) if "without it" in message]


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_compiled_training_equals_an_eager_one(name):
    assert_compiled_equals_eager(name)


@pytest.mark.long
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_training_compiled_with_the_default_backend_equals_an_eager_one(name):
    assert_compiled_equals_eager(name, backend="inductor")


@pytest.mark.parametrize("feed", ["chunks", "windows"])
def test_every_feed_can_be_compiled(feed):
    assert_compiled_equals_eager("gru-scratch", feed)


def test_penalties_on_activations_are_the_same():
    assert_compiled_equals_eager("loop", make_callbacks=lambda _: [callbacks.ActivationRegularization(2.0, 1.0)])


def test_gradual_unfreezing_is_the_same():
    def make_callbacks(state):
        head, rest = list(state.model.head.parameters()), list(state.model.layers.parameters())
        groups = {"embed": list(state.model.embed.parameters()), "layers.0": rest, "head": head}
        return [callbacks.Freeze(groups, unfreeze_epochs=0.4)]

    assert_compiled_equals_eager("rnn-scratch", make_callbacks=make_callbacks)


def test_dropout_draws_the_same_masks_where_the_backend_is_eager():
    assert_compiled_equals_eager("transformer", dropout=0.5)


def test_a_model_is_compiled_once_and_not_for_shapes_that_do_not_repeat():
    shapes = []

    def backend(module, inputs):
        shapes.append([tensor.shape for tensor in inputs if not isinstance(tensor, torch.nn.Parameter)])
        return module

    _, _, messages = trained("loop", "stream", backend=backend)
    assert len(shapes) == 1
    assert torch.Size([B, T]) in shapes[0]
    assert messages == ["compiling the training step; this can take a minute"]


def test_hand_written_layers_compile_their_cell_alone_and_only_during_a_step():
    kinds = set()

    def backend(module, inputs):
        kinds.update((tensor.dtype, tensor.dim() < 3) for tensor in inputs)
        return module

    state, _ = make("gru-scratch", backend=backend)
    cell = state.model.layers.cell
    fit(state)
    assert kinds == {(torch.float32, True)}  # no indices of characters, and no sequences
    assert state.model.layers.cell is cell


def test_where_the_compiler_fails_the_training_continues_with_one_line():
    def backend(module, inputs):
        raise RuntimeError("no compiler\nand more lines")

    _, _, messages = trained("rnn-scratch", backend=backend)
    assert assert_equal_to_eager("rnn-scratch", backend=backend) == messages
    assert len(messages) == 2
    assert "no compiler" in messages[1] and messages[1].endswith("; the training continues without it")
    assert "\n" not in messages[1]


def test_layers_that_call_cudnn_are_not_compiled_on_a_cpu():
    _, _, messages = trained("lstm", backend=lambda module, inputs: pytest.fail("it was compiled"))
    assert messages == []

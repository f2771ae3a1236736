"""What a GPU needs of the training step, tested without one: tensors on one device, and no waiting for it.

Every tensor of a step must be on the model's device; here that is "meta", a device without memory. No value may be read
back, since the CPU would have to wait until the device has computed it.
"""

import pytest
import torch
from architectures import ARCHITECTURES, known_options, make_model
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charlm.data.feeds import Chunks, Stream, Windows
from charlm.models import find
from charlm.models.counting import fit_counts, training_span
from charlm.recipe import Recipe
from charlm.training import callbacks, setup
from charlm.training.loop import TrainState, fit_context, train_epoch

pytestmark = pytest.mark.usefixtures("example_model")
GRADIENTS = [name for name, architecture in ARCHITECTURES.items() if architecture.uses_gradients]
V, T, B = 12, 8, 3
SMALL = {"n_embed": 8, "n_hidden": 8, "n_layers": 2, "head_size": 4, "window_size": T, "n_heads": 2, "n_state": 4}
SMALL |= {"folded_words": True}  # the option of `quick`
WITH_DROPOUT = {"dropout": 0.1, "head_dropout": 0.1, "weight_dropout": 0.1, "input_dropout": 0.1, "char_dropout": 0.1}


def make(name, feed=None, device="cpu", recipe=Recipe()):  # noqa: B008
    """Return a training of seven steps with dropout, the last one shorter, on a device."""
    ids = torch.randint(V, (B * (6 * T + 3) + 1,), dtype=torch.uint8)
    options = known_options(name, SMALL)
    options |= {key: value for key, value in WITH_DROPOUT.items() if key in options}
    model = make_model(name, V, **options)
    fit_counts(model, ids)
    model, ids = model.to(device), training_span(model, ids).to(device)
    if (feed or find(name).default_feed) == "windows":
        batches = Windows(ids, find(name).n_context or T, 25)
    else:
        batches = Chunks(ids, T, B) if feed == "chunks" else Stream(ids, T, B)
    optimizer = setup.make_optimizer(recipe.replace(learning_rate=0.01), model)
    return TrainState(model, batches, optimizer, n_epochs=1, label_smoothing=0.1)


def train(state):
    """Train an epoch with the callbacks that change a step, and without the report at its end."""
    listed = [
        callbacks.Schedule(0.01, lambda done: 1 - done, lambda done: 0.9),
        callbacks.ActivationRegularization(2.0, 1.0),
        callbacks.ClipGradient(1.0),
        callbacks.EMA(0.9),
        callbacks.TrainingStats(every=1000),
    ]
    with fit_context(state, listed):
        train_epoch(state, listed)
    assert state.step == len(state.feed)


class OneDevice(TorchDispatchMode):
    """Raise an error where an operation makes a tensor on another device; arrays may become tensors on the CPU."""

    def __init__(self, device):
        super().__init__()
        self.device = torch.device(device)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            is_array = function is torch.ops.aten.lift_fresh.default
            if isinstance(tensor, torch.Tensor) and tensor.device != self.device and not is_array:
                raise AssertionError(f"{function} made a tensor of shape {tuple(tensor.shape)} on {tensor.device}")
        return made


READS = {
    torch.Tensor.item,
    torch.Tensor.cpu,
    torch.Tensor.numpy,
    torch.Tensor.tolist,
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__index__,
    torch.Tensor.__array__,
    torch.Tensor.nonzero,
    torch.Tensor.masked_select,
    torch.Tensor.unique,
    torch.nonzero,
    torch.masked_select,
}


class NoReads(TorchFunctionMode):
    """Raise an error where a value is read back from a tensor, or its values decide the shape of another one."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        indexes = function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
        masks = indexes and [
            part for part in tree_leaves(args[1]) if isinstance(part, torch.Tensor) and part.dtype == torch.bool
        ]
        if function in READS or masks:
            raise AssertionError(f"{function.__name__} reads a value back")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_step_makes_all_tensors_on_the_device_of_the_model(name):
    state = make(name, device="meta", recipe=Recipe(optimizer="sgd"))
    with OneDevice("meta"):
        train(state)


@pytest.mark.parametrize("feed", ["windows", "chunks"])
def test_a_step_with_any_feed_makes_all_tensors_on_the_device(feed):
    state = make("gru", feed, "meta", Recipe(optimizer="sgd"))
    with OneDevice("meta"):
        train(state)


def test_a_tensor_on_another_device_is_noticed():
    with pytest.raises(AssertionError, match="zeros.default made a tensor of shape"), OneDevice("meta"):
        torch.zeros(2)


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_step_reads_no_value_back(name):
    state = make(name)
    with NoReads():
        train(state)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_no_optimizer_reads_a_value_back(optimizer):
    state = make("gru", recipe=Recipe(optimizer=optimizer))
    with NoReads():
        train(state)


@pytest.mark.parametrize("feed", ["windows", "chunks"])
def test_no_feed_reads_a_value_back(feed):
    state = make("gru", feed)
    with NoReads():
        train(state)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.item(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: not x,
        lambda x: float(x),
        lambda x: x.view(1)[x.view(1) > 0],
    ],
    ids=["item", "cpu", "numpy", "tolist", "boolean", "float", "mask"],
)
def test_a_value_that_is_read_back_is_noticed(read):
    state = make("gru")
    state.loss_function = lambda logits, targets: (logits.mean(), read(logits.detach().mean()))[0]
    with pytest.raises(AssertionError, match="reads a value back"), NoReads():
        train(state)

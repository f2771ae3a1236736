"""What a recipe's words stand for: device, feeds, optimiser, schedule."""

from __future__ import annotations

import torch
from torch import Tensor

from charlm import models
from charlm.data.feeds import Chunks, Feed, RandomSubset, Stream, Windows, random_split
from charlm.errors import UsageError
from charlm.recipe import Recipe
from charlm.training import callbacks, distributed
from charlm.training.loop import Callback
from charlm.training.schedules import make_schedule, one_cycle_momentum

HELD_OUT = 0.2  # share of the windows that the split "random20" holds out


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" takes cuda, then mps, then cpu. Each process has a GPU of its own.

    Raises:
        UsageError: the device is not there, or there are fewer than processes.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in there.items() if is_there)
    if not there.get(name):
        raise UsageError(f"device {name} is not there; this machine has: {', '.join(d for d in there if there[d])}")
    return distributed.rank_device(torch.device(name))


def resolve(recipe: Recipe, device: torch.device) -> Recipe:
    """Fill in what a recipe leaves to the model and the device: options, feed, window, batch, rate, bfloat16.

    Raises:
        UsageError: the feed or the split does not go with the model.
    """
    architecture = models.find(recipe.model)
    feed = recipe.feed or architecture.default_feed
    if architecture.n_context is not None and feed != "windows":
        raise UsageError(f"model {recipe.model} predicts after a fixed window; it needs --feed windows")
    if recipe.split == "random20" and issubclass(architecture, models.CountingModel):
        raise UsageError(f"model {recipe.model} counts all of the text; split random20 would hold out none of it")
    if recipe.split == "random20" and feed == "stream":
        raise UsageError("split random20 holds out windows or chunks; with feed stream take another split")
    if feed == "windows" and issubclass(architecture, models.CountingModel) and architecture.uses_gradients:
        raise UsageError(f"model {recipe.model} looks back further than a window; it needs --feed stream or chunks")
    batch_size = recipe.batch_size or (512 if feed == "windows" else 32)
    n = distributed.world_size()
    if n > 1 and not architecture.uses_gradients:
        raise UsageError(f"model {recipe.model} counts in one process; start it without torchrun")
    if n > batch_size:
        raise UsageError(f"{n} processes for a batch of {batch_size}; take fewer, or a larger --batch-size")
    return recipe.replace(
        options=models.options_of(recipe.model) | recipe.options,
        feed=feed,
        learning_rate=recipe.learning_rate or architecture.default_learning_rate,
        n_context=architecture.n_context or recipe.n_context,
        batch_size=batch_size,
        bf16=recipe.bf16 and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
    )


def make_feeds(recipe: Recipe, ids: Tensor) -> tuple[Feed, Feed | None]:
    """Return the feed of the training part, and the held-out windows if the split is of windows.

    Args:
        recipe: as `resolve` returns it.
        ids: the training part, (N,).
    """
    batch_size = recipe.batch_size
    assert batch_size is not None
    if recipe.feed == "stream":
        return Stream(ids, recipe.bptt, batch_size), None

    def rows(subset: RandomSubset | None = None) -> Windows | Chunks:
        if recipe.feed == "windows":
            return Windows(ids, recipe.n_context, batch_size, recipe.seed, recipe.stride, subset)
        return Chunks(ids, recipe.bptt, batch_size, recipe.seed, subset)

    if recipe.split != "random20":
        return rows(), None
    state_attrs, held_out = random_split(rows().n_rows, HELD_OUT, recipe.seed)
    return rows(state_attrs), rows(held_out)


def make_optimizer(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser from `torch.optim`."""
    parameters, rate, decay = list(model.parameters()), recipe.learning_rate, recipe.weight_decay
    assert rate is not None  # as `resolve` returns it
    if not parameters:
        return torch.optim.SGD([{"params": []}], rate)  # for a model that counts: never used
    fused = parameters[0].device.type in ("cpu", "cuda")
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
        case "sgd":
            return torch.optim.SGD(parameters, rate, recipe.momentum, weight_decay=decay, fused=fused)
        case _:
            return torch.optim.RMSprop(parameters, rate, momentum=recipe.momentum, weight_decay=decay)


def gradient_callbacks(recipe: Recipe) -> list[Callback]:
    """Return the callbacks that change the gradient as the recipe says."""
    listed: list[Callback] = []
    if recipe.ar or recipe.tar:
        listed.append(callbacks.ActivationRegularization(recipe.ar, recipe.tar))
    if recipe.clip is not None:
        listed.append(callbacks.ClipGradient(recipe.clip))
    return listed


def schedule_callback(recipe: Recipe) -> Callback:
    """Return the callback that moves the learning rate as the recipe says.

    Raises:
        UsageError: lengths in epochs that do not fit into the training, or where only the minutes are known.
    """
    n_epochs = recipe.epochs
    assert recipe.learning_rate is not None  # as `resolve` returns it
    if n_epochs is None:
        if recipe.warmup_epochs or recipe.hold_epochs or recipe.drop_epochs:
            raise UsageError("warm-up, hold and drops are in epochs; say how many --epochs there are in all")
        n_epochs = 1
    if recipe.warmup_epochs + recipe.hold_epochs >= n_epochs and recipe.schedule != "constant":
        raise UsageError(f"warm-up and hold leave none of the {n_epochs} epochs to schedule {recipe.schedule}")
    factor = make_schedule(
        recipe.schedule,
        n_epochs,
        recipe.warmup_epochs,
        recipe.hold_epochs,
        recipe.drop_epochs,
        recipe.n_cycles,
    )
    has_momentum = recipe.optimizer in ("adam", "adamw") or (recipe.optimizer == "sgd" and recipe.momentum > 0)
    moves = recipe.schedule == "one-cycle" and has_momentum
    return callbacks.Schedule(recipe.learning_rate, factor, one_cycle_momentum if moves else None)

"""From a recipe to its device, feeds, optimiser and callbacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from charlm import models
from charlm.data.feeds import Chunks, Feed, RandomSubset, Stream, Windows, random_split
from charlm.data.named_texts import default_split
from charlm.errors import DataError, UsageError, shown
from charlm.recipe import Recipe
from charlm.training import callbacks, distributed
from charlm.training.groups import layer_groups, rate_factors
from charlm.training.loop import Callback
from charlm.training.schedules import make_schedule, one_cycle_momentum

HELD_OUT = 0.2  # fraction of the windows that the split "random20" holds out


def choose_device(name: str) -> torch.device:
    """Return a device by name; "auto" takes cuda, then mps, then cpu. Each process gets its own GPU.

    Raises:
        UsageError: the device is not available, or there are fewer GPUs than processes.
    """
    checks = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device, is_available in checks.items() if is_available]
    if name == "auto":
        name = available[0]
    if name not in available:
        raise UsageError(f"device {shown(name)} is not available; available: {', '.join(available)}")
    return distributed.rank_device(torch.device(name))


def fill_defaults(recipe: Recipe, device: torch.device) -> Recipe:
    """Fill in the keys that depend on text, model and device: split, options, feed, window, batch size, rate, bf16.

    Raises:
        UsageError: the feed, the split or the number of processes is invalid for the model.
    """
    architecture = models.find(recipe.model)
    feed = recipe.feed or architecture.default_feed
    split = recipe.split or default_split(recipe.corpus)
    if architecture.n_context is not None and feed != "windows":
        raise UsageError(f"model {recipe.model} has a fixed window; it needs --feed windows")
    if split == "random20" and issubclass(architecture, models.CountingModel):
        raise UsageError(
            f"model {recipe.model} counts the whole text, so split random20 would hold out nothing; take another split"
        )
    if split == "random20" and feed == "stream":
        raise UsageError("split random20 holds out windows or chunks; take another split with feed stream")
    if feed == "windows" and issubclass(architecture, models.CountingModel) and architecture.uses_gradients:
        raise UsageError(f"model {recipe.model} reads further back than a window; it needs --feed stream or chunks")
    if not architecture.uses_gradients and (recipe.freeze or recipe.group_rates or recipe.unfreeze_epochs):
        raise UsageError(f"model {recipe.model} has no weights; leave out --freeze, --group-rates, --unfreeze-epochs")
    if recipe.keep_counts and not issubclass(architecture, models.CountingModel):
        raise UsageError(f"model {recipe.model} has no n-gram counts; leave out --keep-counts")
    models.check_options(recipe.model, recipe.options)
    batch_size = recipe.batch_size or (512 if feed == "windows" else 32)
    n = distributed.world_size()
    if n > 1 and not architecture.uses_gradients:
        raise UsageError(f"model {recipe.model} has no gradients and runs in one process; start it without torchrun")
    if n > batch_size:
        raise UsageError(f"{n} processes for a batch of {batch_size}; take fewer processes, or a larger --batch-size")
    filled = recipe.replace(
        model=models.canonical(recipe.model),
        options=models.options_of(recipe.model) | recipe.options,
        split=split,
        feed=feed,
        learning_rate=recipe.learning_rate or architecture.default_learning_rate,
        n_context=architecture.n_context or recipe.n_context,
        batch_size=batch_size,
        bf16=recipe.bf16 and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
    )
    given = {key: value for key, value in filled.options.items() if value is not None}  # TOML has no null
    return replace(filled, options=given)


def make_feeds(recipe: Recipe, ids: Tensor) -> tuple[Feed, Feed | None]:
    """Return the training feed, and the held-out feed of split "random20" (else None).

    Args:
        recipe: see `fill_defaults`.
        ids: the training part, (N,).

    Raises:
        DataError: the text is too short.
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
    n_rows = rows().n_rows
    train, held_out = random_split(n_rows, HELD_OUT, recipe.seed)
    if not len(held_out):
        raise DataError(
            f"the text has {n_rows} {recipe.feed}, too few to hold out a fifth of them (split random20); "
            "take another --split, or a longer text"
        )
    return rows(train), rows(held_out)


def steps_between_validations(feed: Feed, n_chars: int, max_per_epoch: int) -> int:
    """Return the steps between two validations within an epoch, 0 for validation at its end alone.

    Args:
        feed: the training feed.
        n_chars: characters between two validations at least.
        max_per_epoch: validations in an epoch at most.
    """
    per_step = feed.batch(0, 0)[1].numel()
    every = max(-(-n_chars // per_step), -(-len(feed) // max_per_epoch))
    return every if every < len(feed) else 0


def make_optimizer(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser from `torch.optim`."""
    parameters: list[Any] = list(model.parameters())
    rate, decay = recipe.learning_rate, recipe.weight_decay
    assert rate is not None  # see `fill_defaults`
    if not parameters:
        return torch.optim.SGD([{"params": []}], rate)  # for a model that only counts; never used
    fused = parameters[0].device.type in ("cpu", "cuda")
    if recipe.group_rates:
        groups = layer_groups(model)
        factors = rate_factors(groups, recipe.group_rates)
        parameters = [{"params": groups[name], "rate_factor": factor} for name, factor in factors.items()]
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
        case "sgd":
            fused &= not recipe.unfreeze_epochs  # fused: momentum of all parameters or of none
            return torch.optim.SGD(parameters, rate, recipe.momentum, weight_decay=decay, fused=fused)
        case _:
            return torch.optim.RMSprop(parameters, rate, momentum=recipe.momentum, weight_decay=decay)


def freeze_callbacks(recipe: Recipe, model: torch.nn.Module) -> list[Callback]:
    """Return the callback that freezes layer groups, if the recipe asks for one.

    Raises:
        UsageError: there is no such group, or no other is left.
    """
    if not recipe.freeze and recipe.unfreeze_epochs is None:
        return []
    return [callbacks.Freeze(layer_groups(model), recipe.freeze, recipe.unfreeze_epochs)]


def gradient_callbacks(recipe: Recipe) -> list[Callback]:
    """Return the callbacks that change the gradient."""
    found: list[Callback] = [callbacks.AllReduceGradients()] if distributed.world_size() > 1 else []
    if recipe.ar or recipe.tar:
        found.append(callbacks.ActivationRegularization(recipe.ar, recipe.tar))
    if recipe.clip is not None:
        found.append(callbacks.ClipGradient(recipe.clip))
    return found


def schedule_callback(recipe: Recipe) -> Callback:
    """Return the callback of the learning rate schedule.

    Raises:
        UsageError: lengths in epochs that exceed the training, or a training with a limit in minutes only.
    """
    n_epochs = recipe.epochs
    assert recipe.learning_rate is not None  # see `fill_defaults`
    if n_epochs is None:
        if recipe.warmup_epochs or recipe.hold_epochs or recipe.drop_epochs:
            raise UsageError("warm-up, hold and drops are in epochs; give the total number of --epochs")
        n_epochs = 1
    if recipe.warmup_epochs + recipe.hold_epochs >= n_epochs and recipe.schedule != "constant":
        raise UsageError(f"warm-up and hold take all {n_epochs} epochs and leave none to schedule {recipe.schedule}")
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

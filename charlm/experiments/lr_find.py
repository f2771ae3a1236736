"""Learning-rate range test (Smith 2015): raise the learning rate at every step and record the loss.

Reference: Smith (2015), Cyclical learning rates for training neural networks, arXiv:1506.01186, section 3.3. Steepest
fall, valley and a tenth of the minimum are those of fastai's `lr_find`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from charlm import models
from charlm.data.corpus import Corpus
from charlm.errors import CharlmError, UsageError
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.plots import figure
from charlm.models.counting import fit_counts
from charlm.recipe import Recipe
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.setup import freeze_callbacks, gradient_callbacks
from charlm.training.trainer import Trainer

SMOOTHING = 0.95  # weight of earlier losses in the moving average
DIVERGED = 1.5  # a loss above this multiple of the lowest loss ends the search
SLOPE_STEPS = 5  # steps over which the slope is taken
# The suggestion: how the values were chosen is in docs/log.md.
BELOW_MINIMUM = 6.0  # the rate of the lowest loss is divided by this in the following training
N_STEPS, CHARS_PER_STEP = 422, 256
NOISE_POWER = 0.2  # and by this power of the ratio of n_steps / chars_per_step to that of this training


class Sweep(Callback):
    """Raise the learning rate by a constant factor at every step, and record the loss.

    Args:
        lowest: first learning rate.
        highest: last learning rate.
        n_steps: steps from the first to the last.

    Attributes:
        rates: learning rate of each step.
        nats: smoothed training loss of each step, nats per character.
    """

    def __init__(self, lowest: float, highest: float, n_steps: int) -> None:
        self.lowest, self.highest, self.n_steps = lowest, highest, n_steps
        self.rates: list[float] = []
        self.nats: list[float] = []
        self._mean = 0.0  # moving average of the loss

    def on_batch_start(self, state: TrainState) -> None:
        """Set the learning rate."""
        rate = self.lowest * (self.highest / self.lowest) ** (state.step / (self.n_steps - 1))
        self.rates.append(rate)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)

    def on_batch_end(self, state: TrainState) -> None:
        """Record the loss; stop after the last step, or when the loss diverges."""
        loss = float(state.batch.loss)
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        self.nats.append(self._mean / (1 - SMOOTHING**state.step))  # bias correction for the initial 0
        diverged = not math.isfinite(loss) or self.nats[-1] > DIVERGED * min(self.nats)
        state.stop = diverged or state.step >= self.n_steps


@dataclass(frozen=True)
class LearningRates:
    """Result of a range test.

    Attributes:
        rates: learning rates, rising.
        nats: smoothed training loss at each, nats per character.
        n_steps: steps of the training for which a rate is suggested.
        chars_per_step: characters predicted at a step.
    """

    rates: list[float]
    nats: list[float]
    n_steps: float
    chars_per_step: float

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls most steeply."""
        slopes = [self.nats[i + SLOPE_STEPS] - self.nats[i] for i in range(len(self.nats) - SLOPE_STEPS)]
        return self.rates[slopes.index(min(slopes)) + SLOPE_STEPS // 2]

    @property
    def valley(self) -> float:
        """The middle of the longest falling part of the curve, as in fastai."""
        first, last = longest_fall(self.nats)
        return self.rates[(first + last) // 2]

    @property
    def minimum(self) -> float:
        """The rate with the lowest loss; training at it diverges, or nearly so."""
        return self.rates[self.nats.index(min(self.nats))]

    @property
    def suggestion(self) -> float:
        """The peak learning rate to train with, lower for smaller batches (noisier gradients) and for more steps."""
        noise = (self.n_steps / N_STEPS) * (CHARS_PER_STEP / self.chars_per_step)
        divisor: float = BELOW_MINIMUM * noise**NOISE_POWER
        return self.minimum / max(1.0, divisor)


def longest_fall(values: list[float]) -> tuple[int, int]:
    """Return first and last position of the longest decreasing subsequence."""
    lengths, firsts = [1] * len(values), list(range(len(values)))  # of the longest one that ends at each position
    for i in range(len(values)):
        for j in range(i):
            if values[i] < values[j] and lengths[i] <= lengths[j]:
                lengths[i], firsts[i] = lengths[j] + 1, firsts[j]
    last = lengths.index(max(lengths))
    return firsts[last], last


def steps_of_training(recipe: Recipe, measured: TrainState) -> float:
    """Return the steps of a training by a recipe: those of its epochs, or of its time limit by the measured seconds."""
    by_epochs = math.inf if recipe.epochs is None else recipe.epochs * len(measured.feed)
    by_time = math.inf
    if recipe.minutes is not None:
        by_time = 60 * recipe.minutes * measured.step / measured.timer.synced_seconds
    return min(by_epochs, by_time)


def find_rate(
    recipe: Recipe, corpus: Corpus, lowest: float = 1e-5, highest: float = 1.0, n_steps: int = 200
) -> LearningRates:
    """Run a range test with a model that is discarded afterwards.

    Args:
        recipe: its learning rate, schedule and gradual unfreezing are ignored; its epochs or minutes are the length of
            the training for which a rate is suggested.
        corpus: the text.
        lowest: first learning rate.
        highest: last learning rate; the test ends earlier if the loss diverges.
        n_steps: steps from the first to the last.

    Raises:
        UsageError, DataError: as in training.
        CharlmError: the loss diverged within ten steps.
    """
    if not models.find(recipe.model).uses_gradients:
        raise UsageError(f"model {recipe.model} has no learning rate: it is trained by counting; use `charlm train`")
    with torch.random.fork_rng():
        trainer = Trainer.make(
            recipe.replace(schedule="constant", warmup_epochs=0, hold_epochs=0, drop_epochs=[]), corpus
        )
        state = trainer.state
        fit_counts(state.model, trainer.train_ids, *trainer.symbol_kinds)
        state.n_epochs, state.timer.minutes = math.inf, None
        sweep = Sweep(lowest, highest, n_steps)
        freeze = freeze_callbacks(trainer.recipe.replace(unfreeze_epochs=None), state.model)
        fit(state, [*freeze, *gradient_callbacks(recipe), sweep])
    finite = [(rate, nats) for rate, nats in zip(sweep.rates, sweep.nats, strict=False) if math.isfinite(nats)]
    if len(finite) < 10:
        raise CharlmError(f"the loss diverged within {len(finite)} steps; lower --lowest")
    rates, nats = [rate for rate, _ in finite], [nats for _, nats in finite]
    return LearningRates(rates, nats, steps_of_training(recipe, state), state.n_chars / state.step)


def plot(found: LearningRates, path: Path, title: str) -> None:
    """Plot loss over learning rate, to a file of a format in `plots.SUFFIXES`.

    Raises:
        CharlmError: matplotlib (extra `plot`) is not installed.
    """
    with figure(path, 7, 4) as axes:
        axes.semilogx(found.rates, [nats_to_bits(nats) for nats in found.nats])
        for name, style in (("steepest", ":"), ("valley", "-."), ("suggestion", "--")):
            rate = getattr(found, name)
            axes.axvline(rate, linestyle=style, color="tab:orange", label=f"{name}: {rate:.1e}")
        axes.set(xlabel="learning rate", ylabel="training loss, bits per character (smoothed)")
        axes.set_title(title)
        axes.legend()

"""The learning-rate finder: raise the rate a little at every step and watch the loss.

Reference: Smith (2015), Cyclical learning rates for training neural networks, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from charlm import models
from charlm.data.corpus import Corpus
from charlm.errors import CharlmError, UsageError
from charlm.experiments.plots import picture
from charlm.models.counting import fit_counts
from charlm.recipe import Recipe
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.setup import gradient_callbacks
from charlm.training.trainer import Trainer

SMOOTH = 0.95  # weight of the past in the smoothed loss
DIVERGED = 1.5  # times the lowest loss at which the search stops


class Sweep(Callback):
    """Raise the learning rate by a factor at every step, and note the loss.

    Args:
        lowest: first rate.
        highest: last rate.
        n_steps: from the one to the other.

    Attributes:
        rates: learning rate of each step.
        nats: smoothed training loss of each step, nats per character.
    """

    def __init__(self, lowest: float, highest: float, n_steps: int) -> None:
        self.lowest, self.highest, self.n_steps = lowest, highest, n_steps
        self.rates: list[float] = []
        self.nats: list[float] = []
        self._mean = 0.0

    def on_batch_start(self, state: TrainState) -> None:
        """Set the rate."""
        rate = self.lowest * (self.highest / self.lowest) ** (state.step / (self.n_steps - 1))
        self.rates.append(rate)
        for group in state.optimizer.param_groups:
            group["lr"] = rate

    def on_batch_end(self, state: TrainState) -> None:
        """Note the loss; stop at the end, or where the loss runs away."""
        loss = float(state.batch.loss)
        self._mean = SMOOTH * self._mean + (1 - SMOOTH) * loss
        self.nats.append(self._mean / (1 - SMOOTH**state.step))  # without the bias towards the initial 0
        diverged = not math.isfinite(loss) or self.nats[-1] > DIVERGED * min(self.nats)
        state.stop = diverged or state.step >= self.n_steps


@dataclass(frozen=True)
class Rates:
    """What a search found.

    Attributes:
        rates: learning rates tried, rising.
        nats: the smoothed training loss at each, nats per character.
        suggestion: the rate at which the loss falls most steeply.
    """

    rates: list[float]
    nats: list[float]
    suggestion: float


def find_rate(recipe: Recipe, corpus: Corpus, lowest: float = 1e-5, highest: float = 1.0, n_steps: int = 200) -> Rates:
    """Search for a learning rate with a model that is thrown away.

    Args:
        recipe: everything but the learning rate and its schedule.
        corpus: the text.
        lowest: first rate.
        highest: last rate; the search ends earlier where the loss runs away.
        n_steps: from the one to the other.

    Raises:
        UsageError, DataError: as in training.
        CharlmError: the loss ran away before anything could be seen.
    """
    if not models.find(recipe.model).uses_gradients:
        raise UsageError(f"model {recipe.model} counts and has no learning rate; `charlm train` will do")
    with torch.random.fork_rng():
        trainer = Trainer.make(recipe, corpus)
        state = trainer.state
        fit_counts(state.model, trainer.train_ids, trainer.char_classes)
        state.n_epochs, state.timer.minutes = math.inf, None
        sweep = Sweep(lowest, highest, n_steps)
        fit(state, [*gradient_callbacks(recipe), sweep])
    finite = [(r, n) for r, n in zip(sweep.rates, sweep.nats, strict=False) if math.isfinite(n)]
    if len(finite) < 10:
        raise CharlmError(f"the loss ran away within {len(finite)} steps; begin with a lower --lowest")
    rates, nats = [r for r, _ in finite], [n for _, n in finite]
    far = 5  # steps over which the slope is taken
    slopes = [nats[i + far] - nats[i] for i in range(len(nats) - far)]
    return Rates(rates, nats, rates[slopes.index(min(slopes)) + far // 2])


def plot(found: Rates, path: Path) -> None:
    """Draw loss over learning rate into a PNG file.

    Raises:
        CharlmError: matplotlib, the `plot` extra, is not installed.
    """
    with picture(path, 7, 4) as axes:
        axes.semilogx(found.rates, [n / math.log(2) for n in found.nats])
        axes.axvline(found.suggestion, linestyle="--", color="tab:orange", label=f"steepest: {found.suggestion:.1e}")
        axes.set(xlabel="learning rate", ylabel="training loss, bits per character (smoothed)")
        axes.legend()

"""Search for hyper-parameters: the values of each trial, given the trials before it.

Trial 0 has the entry's own values. The next `N_SPREAD` are points of a scrambled Sobol sequence, which fill the space
evenly. Further ones are proposed by optuna's TPE (Bergstra et al., 2011), or are Sobol points where optuna is not
installed. A proposal depends on the recorded trials and its number alone, so a search that was killed continues as if
it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from torch.quasirandom import SobolEngine

from charlm import models
from charlm.errors import UsageError, did_you_mean, shown
from charlm.options.ranges import RANGES, Range, checked_number, model_option_range
from charlm.recipe import Recipe

if TYPE_CHECKING:
    import optuna

N_SPREAD = 4
N_STARTUP = 3  # complete trials before the first one is pruned
NOT_TUNED = {"seed", "min_count", "epochs", "minutes", "patience", "save_steps", "save_minutes", "unfreeze_epochs"}
TUNED_KEYS = {key.name for key in fields(Recipe) if key.name in RANGES and "tuple" not in str(key.type)} - NOT_TUNED


@dataclass(frozen=True)
class Dimension:
    """A hyper-parameter and its range.

    Attributes:
        name: a key of the recipe, or an option of the model.
        low: lowest value.
        high: highest value. If it is at least 10 times a positive lowest one, the scale is logarithmic.
    """

    name: str
    low: float
    high: float

    @property
    def is_log(self) -> bool:
        """Whether the scale is logarithmic."""
        return self.low > 0 and self.high >= 10 * self.low

    def at(self, fraction: float) -> float:
        """Return the value at a fraction of the range, rounded."""
        if self.is_log:
            return self.rounded(self.low * (self.high / self.low) ** fraction)
        return self.rounded(self.low + fraction * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Return a value within the range, of 4 significant digits except at its ends."""
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class Trial:
    """A recorded trial.

    Attributes:
        values: of the hyper-parameters.
        valid_nats: lowest validation loss; None if the training diverged.
        is_pruned: the trial was ended early.
        reports: characters and validation loss of each validation.
    """

    values: Mapping[str, float]
    valid_nats: float | None
    is_pruned: bool
    reports: Sequence[tuple[int, float]]


def parse_space(text: str) -> list[Dimension]:
    """Return the dimensions of `learning_rate=1e-3..3e-2,dropout=0..0.5`.

    Raises:
        UsageError: it has another form, a name twice, or a range that is empty or invalid for a key of the recipe.
    """
    found: dict[str, Dimension] = {}
    for part in text.split(","):
        name, _, bounds = part.strip().partition("=")
        name = name.replace("-", "_")
        try:
            low, high = map(float, bounds.split(".."))
        except ValueError:
            raise UsageError(f"--tune {shown(part)}: must be NAME=LOW..HIGH, as learning_rate=1e-3..3e-2") from None
        if name in found or not low < high:
            raise UsageError(
                f"--tune {shown(part)}: " + ("is given twice" if name in found else "LOW is not below HIGH")
            )
        if name in NOT_TUNED or (name in {key.name for key in fields(Recipe)} and name not in TUNED_KEYS):
            raise UsageError(f"--tune {name}: is the same for all trials; take it out")
        if name in TUNED_KEYS:
            _check(name, low, high, RANGES[name])
        found[name] = Dimension(name, low, high)
    return list(found.values())


def _check(name: str, low: float, high: float, bounds: Range) -> None:
    for value in (low, high):
        checked_number(f"--tune {name}", int(value) if bounds.kind is int and value == int(value) else value, bounds)


def dimensions_of(recipe: Recipe, space: Sequence[Dimension]) -> list[Dimension]:
    """Return the dimensions that a recipe's model has; dropout between layers only if there are several.

    Raises:
        UsageError: a range is invalid for an option of the model.
    """
    known, found = models.options_of(recipe.model), []
    has_one_layer = "head_dropout" in known and (known | recipe.options).get("n_layers") == 1
    for dimension in space:
        if dimension.name in TUNED_KEYS:
            found.append(dimension)
        elif dimension.name in known:
            bounds = model_option_range(dimension.name, known[dimension.name])
            if bounds is None:
                raise UsageError(f"--tune {dimension.name}: is no number for model {recipe.model}; take it out")
            _check(dimension.name, dimension.low, dimension.high, bounds)
            if not (dimension.name == "dropout" and has_one_layer):
                found.append(dimension)
    return found


def check_space(space: Sequence[Dimension], entries: Sequence[Recipe]) -> None:
    """Check that each dimension is valid for the models, and belongs to at least one of them.

    Raises:
        UsageError: one is not.
    """
    for entry in entries:
        dimensions_of(entry, space)
    known = {option for entry in entries for option in models.options_of(entry.model)} | TUNED_KEYS
    for dimension in space:
        if dimension.name not in known:
            raise UsageError(
                f"--tune {dimension.name}: none of the models has this option{did_you_mean(dimension.name, known)}"
            )


def with_values(recipe: Recipe, values: Mapping[str, float]) -> Recipe:
    """Return a recipe with values of hyper-parameters, integers rounded."""
    known = models.options_of(recipe.model)
    keys: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in values.items():
        bounds = RANGES[name] if name in TUNED_KEYS else model_option_range(name, known[name])
        assert bounds is not None
        (keys if name in TUNED_KEYS else options)[name] = bounds.kind(round(value) if bounds.kind is int else value)
    return recipe.replace(**keys, options=options)


@cache
def has_optuna() -> bool:
    """Return whether optuna, the extra `tune`, is installed."""
    try:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
    except ImportError:
        return False
    return True


class Search:
    """Proposals of values, and early ends of trials.

    Args:
        dimensions: of the space, at least one.
        own: values of the entry, for trial 0, as far as they are numbers.
        seed: of Sobol sequence and sampler.
        by_optuna: use optuna.
    """

    def __init__(self, dimensions: Sequence[Dimension], own: Mapping[str, float], seed: int, by_optuna: bool) -> None:
        self.dimensions, self.seed, self.by_optuna = dimensions, seed, by_optuna
        self.own = {d.name: d.rounded(own[d.name]) for d in dimensions if own.get(d.name) is not None}

    @property
    def name(self) -> str:
        """Name of the method, which a search that goes on must have in common."""
        if not self.by_optuna:
            return "Sobol sequence"
        import optuna

        return f"TPE, median pruner, optuna {optuna.__version__}"

    def propose(self, trials: Sequence[Trial]) -> tuple[dict[str, float], Pruner]:
        """Return the values of the next trial, and what ends it early.

        Args:
            trials: all earlier ones.
        """
        spread = self._spread(len(trials))
        if not self.by_optuna:
            return spread, Pruner(None)
        study = self._study(trials)
        if len(trials) <= N_SPREAD:
            study.enqueue_trial(spread)
        trial = study.ask(_distributions(self.dimensions))
        return {d.name: d.rounded(trial.params[d.name]) for d in self.dimensions}, Pruner(trial)

    def _spread(self, number: int) -> dict[str, float]:
        points = SobolEngine(len(self.dimensions), scramble=True, seed=self.seed).draw(number + 1)[-1].tolist()  # type: ignore[no-untyped-call]
        found = {d.name: d.at(fraction) for d, fraction in zip(self.dimensions, points, strict=True)}
        return found | self.own if number == 0 else found

    def _study(self, trials: Sequence[Trial]) -> optuna.Study:
        import optuna

        sampler = optuna.samplers.TPESampler(seed=self.seed + len(trials), n_startup_trials=1)
        study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(n_startup_trials=N_STARTUP))
        for trial in trials:
            is_complete = trial.valid_nats is not None and not trial.is_pruned
            study.add_trial(
                optuna.create_trial(
                    state=optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.PRUNED,
                    value=trial.valid_nats if is_complete else None,
                    params=dict(trial.values),
                    distributions=_distributions(self.dimensions),
                    intermediate_values=dict(trial.reports),
                )
            )
        return study


def _distributions(dimensions: Sequence[Dimension]) -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna.distributions import FloatDistribution

    return {d.name: FloatDistribution(d.low, d.high, log=d.is_log) for d in dimensions}


class Pruner:
    """The early end of a trial: optuna's median rule, or none.

    Args:
        trial: of optuna; None for none.
    """

    def __init__(self, trial: optuna.Trial | None) -> None:
        self.trial = trial
        self.reports: list[tuple[int, float]] = []

    def report(self, n_chars: int, valid_nats: float) -> None:
        """Note a validation loss after `n_chars` characters."""
        self.reports.append((n_chars, valid_nats))
        if self.trial is not None:
            self.trial.report(valid_nats, n_chars)

    @property
    def should_end(self) -> bool:
        """Whether the trial is worse than the median of the earlier ones at this point."""
        return self.trial is not None and self.trial.should_prune()

"""Search for hyper-parameters: the values of each trial, given the trials before it.

Trial 0 has the entry's own values, moved to the end of the range where they are outside it. The next `N_SOBOL` are
points of a scrambled Sobol sequence, which fill the space evenly. Further ones are proposed by optuna's TPE (Bergstra
et al., 2011), or are Sobol points where optuna is not installed. A proposal depends on the recorded trials and its
number alone, so a search that was killed resumes with the same proposals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from torch.quasirandom import SobolEngine

from charlm.experiments.bench.space import Dimension

if TYPE_CHECKING:
    import optuna

N_SOBOL = 4
N_STARTUP = 3  # complete trials before the first one is pruned
MAX_SEED = 1 << 31  # of optuna's samplers


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

    @property
    def is_complete(self) -> bool:
        """Whether the training neither diverged nor ended early."""
        return self.valid_nats is not None and not self.is_pruned


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
    """Proposals of values, each with a pruner.

    Args:
        dimensions: of the space, at least one.
        own: values of the entry, for trial 0, as far as they are numbers.
        seed: of Sobol sequence and sampler.
        by_optuna: use optuna.
    """

    def __init__(self, dimensions: Sequence[Dimension], own: Mapping[str, float], seed: int, by_optuna: bool) -> None:
        self.dimensions, self.seed, self.by_optuna = dimensions, seed % MAX_SEED, by_optuna
        self.own = {d.name: d.rounded(own[d.name]) for d in dimensions if own.get(d.name) is not None}

    @property
    def name(self) -> str:
        """Name of the method; a search resumes with the same one only."""
        if not self.by_optuna:
            return "Sobol sequence"
        import optuna

        return f"TPE, median pruner, optuna {optuna.__version__}"

    def propose(self, trials: Sequence[Trial]) -> tuple[dict[str, float], Pruner]:
        """Return the values of the next trial, and its pruner.

        Args:
            trials: all earlier ones.
        """
        values = self._sobol_values(len(trials))
        if not self.by_optuna:
            return values, Pruner(None)
        study = self._study(trials)
        if len(trials) <= N_SOBOL:
            study.enqueue_trial(values)
        trial = study.ask(_distributions(self.dimensions))
        return {d.name: d.rounded(trial.params[d.name]) for d in self.dimensions}, Pruner(trial)

    def _sobol_values(self, number: int) -> dict[str, float]:
        """Return a point of the sequence; of trial 0, the entry's own values as far as they are numbers."""
        points = SobolEngine(len(self.dimensions), scramble=True, seed=self.seed).draw(number + 1)[-1].tolist()  # type: ignore[no-untyped-call]
        found = {d.name: d.at(fraction) for d, fraction in zip(self.dimensions, points, strict=True)}
        return found | self.own if number == 0 else found

    def _study(self, trials: Sequence[Trial]) -> optuna.Study:
        import optuna

        sampler = optuna.samplers.TPESampler(seed=self.seed + len(trials), n_startup_trials=1)
        study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(n_startup_trials=N_STARTUP))
        for trial in trials:
            study.add_trial(
                optuna.create_trial(
                    state=optuna.trial.TrialState.COMPLETE if trial.is_complete else optuna.trial.TrialState.PRUNED,
                    value=trial.valid_nats if trial.is_complete else None,
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

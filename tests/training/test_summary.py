"""The sentence after a training."""

import pytest

from charlm.recipe import Recipe
from charlm.training.summary import verdict


@pytest.mark.parametrize(
    ("best", "outcome", "options", "expected"),
    [
        (5, "overfitted", {"head_dropout": 0.0}, "best epoch: 5 of 15 (kept); then the model overfitted: raise --head"),
        (5, "overfitted", {"head_dropout": 0.5}, "lower --n-hidden"),
        (5, "overfitted", {"dropout": 0.1, "n_layers": 2}, "raise --dropout (now 0.1)"),
        (0, "overfitted", {"head_dropout": 0.5}, "the untrained model was better than all 15 epochs"),
        (15, "improving", {}, "still improving: --epochs 20 may be better"),
        (14, "converged", {}, "no longer improved"),
    ],
)
def test_the_verdict_names_the_best_epoch_and_an_option(best, outcome, options, expected):
    result = {"best_epoch": best, "last_epoch": 15, "outcome": outcome}
    assert expected in verdict(result, Recipe(options=options))


def test_a_training_without_validation_has_no_verdict():
    assert verdict({}, Recipe()) is None

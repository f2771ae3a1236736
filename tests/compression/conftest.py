"""Small models for compression."""

from dataclasses import replace
from functools import cache, partial

import pytest
from small_models import write_model

from charlm.compression.models import load_model


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Return a function from the arguments of `write_model` to the path of a checkpoint."""
    return partial(write_model, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def small(checkpoint):
    """Return a small model of characters."""
    model = load_model(checkpoint())
    return replace(model, predictor=cache(model.predictor))

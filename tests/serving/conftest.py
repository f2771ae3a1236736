"""A server of small models."""

import pytest
from servers import running, small_model

MODELS = {
    "gru": {},
    "char3": {},
    "ngram": {},
    "lstm-ngram": {},
    "transformer": {"n_layers": 2},
    "min-gru": {},
}


@pytest.fixture(scope="package")
def models():
    """Return the models of the server by name; "bytes" and "lower" are of bytes and of lower case."""
    built = {name: small_model(name, **options) for name, options in MODELS.items()}
    return built | {"bytes": small_model(is_bytes=True), "lower": small_model(lower=True, longest_line=20)}


@pytest.fixture(scope="package")
def client(models):
    """Return a client of a server of the small models."""
    with running(models) as client:
        yield client

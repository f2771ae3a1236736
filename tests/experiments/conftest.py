"""Fixtures of the tests of studies."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def page_of_record():
    """Return `main` of benchmarks/results.py, which takes the arguments of a command line."""
    spec = spec_from_file_location("page_of_record", Path(__file__).parents[2] / "benchmarks" / "results.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main

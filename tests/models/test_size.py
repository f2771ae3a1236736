"""The size of a model is known before it takes memory."""

import math

import pytest
import torch

from charlm.errors import UsageError
from charlm.models import MODELS, build, find, options_of
from charlm.models.size import check_memory, count_parameters, machine_memory
from charlm.options.ranges import MAX_SIZE


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_counted_without_building_the_model(name):
    before = torch.get_rng_state()
    counted = count_parameters(find(name), 50, {})
    assert torch.equal(torch.get_rng_state(), before)
    assert counted == sum(parameter.numel() for parameter in build(name, 50).parameters())


def test_a_weight_that_no_tensor_can_have_is_infinite():
    assert count_parameters(find("gru"), 50, {"n_hidden": 2**31 - 1}) == math.inf


@pytest.mark.parametrize("name", [name for name in MODELS if "n_embed" in options_of(name)])
@pytest.mark.parametrize("option", ["n_embed", "n_hidden"])
def test_a_model_larger_than_memory_is_refused_with_its_option(name, option):
    if option not in options_of(name):
        return
    with pytest.raises(UsageError, match=f"{option} is {MAX_SIZE}: the weights need .* has 0.0 GB; lower {option}"):
        check_memory(find(name), 50, {option: MAX_SIZE}, options_of(name), 2**20)


def test_the_limit_is_exact():
    options, known = {"n_hidden": 512}, options_of("gru")
    n_bytes = 4 * count_parameters(find("gru"), 50, options)
    check_memory(find("gru"), 50, options, known, n_bytes)
    with pytest.raises(UsageError, match="n_hidden is 512"):
        check_memory(find("gru"), 50, options, known, n_bytes - 1)


def test_this_machine_has_memory():
    assert machine_memory() > 2**28

"""Names of architectures: those of `MODELS` in any case, and hints for other names."""

import pytest

from charlm import models
from charlm.errors import UsageError
from charlm.recipe import Recipe
from charlm.training.setup import choose_device, fill_defaults


@pytest.mark.parametrize("name", ["GRU", "Gru", "LSTM", "Min-GRU"])
def test_a_name_is_found_in_any_case(name):
    assert models.find(name) is models.MODELS[name.lower()]
    assert models.build(name, 5).name == name.lower()
    assert fill_defaults(Recipe(model=name), choose_device("cpu")).model == name.lower()


@pytest.mark.parametrize("name, here", models.OTHER_NAMES.items())
def test_another_name_gets_a_hint(name, here):
    assert here in models.MODELS and name not in models.MODELS
    with pytest.raises(UsageError, match=f"no model '{name}'; here it is called '{here}'"):
        models.find(name)


@pytest.mark.parametrize("name", ["CharLoopModel", "nn.RNN", "char-rnn", "CharRnn", "CharSeqStatefulLSTM"])
def test_the_names_of_the_lesson_are_known(name):
    with pytest.raises(UsageError, match="here it is called"):
        models.find(name)

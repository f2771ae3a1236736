"""Layer groups: freezing, learning rates of their own, gradual unfreezing."""

import json

import pytest
import torch
from architectures import ARCHITECTURES, make_model

from charlm.data.corpus import make_corpus
from charlm.data.feeds import Stream
from charlm.errors import UsageError
from charlm.models import MODELS, build, options_of
from charlm.recipe import OPTIMIZERS, Recipe
from charlm.storage import weights
from charlm.training import callbacks, session, setup
from charlm.training.groups import layer_groups, rate_factors
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.resume import restore, snapshot

pytestmark = pytest.mark.usefixtures("example_model")
GROUPS = ["embed", "layers.0", "layers.1", "head"]  # of a GRU with two layers
TEXT = make_corpus(b"the cat sat on the mat, and the dog sat on the log. " * 10, "text")
SMALL = {"n_embed": 4, "n_hidden": 6, "n_layers": 2}


def make(cycle, name="gru", **changes):
    """Return a training of 3 x 11 steps, and its callbacks."""
    torch.manual_seed(0)
    recipe = Recipe(model=name, options=SMALL, learning_rate=0.02, epochs=3, clip=1.0, **changes)
    model = build(name, 4, **SMALL)
    state = TrainState(model, Stream(cycle(124), bptt=4, batch_size=3), setup.make_optimizer(recipe, model), 3)
    freezing = setup.freeze_callbacks(recipe, model)
    return state, [*freezing, *setup.gradient_callbacks(recipe), setup.schedule_callback(recipe), callbacks.EMA(0.8)]


class Record(Callback):
    """Record after every step which groups changed, and call a function."""

    def __init__(self, do=lambda state: None):
        self.do, self.changed, self._before = do, [], None

    def on_batch_start(self, state):
        self._before = {name: [p.detach().clone() for p in group] for name, group in layer_groups(state.model).items()}

    def on_batch_end(self, state):
        now = layer_groups(state.model)
        self.changed.append(
            [n for n in now if any(map(torch.ne, map(torch.sum, now[n]), map(torch.sum, self._before[n])))]
        )
        self.do(state)


@pytest.mark.parametrize("name", [name for name, cls in ARCHITECTURES.items() if cls.uses_gradients])
def test_each_parameter_is_in_one_group_from_embedding_to_head(name):
    model = make_model(name, 10)
    groups = layer_groups(model)
    assert sorted(map(id, model.parameters())) == sorted(id(p) for group in groups.values() for p in group)
    assert list(groups)[0].startswith("embed")
    assert list(groups)[-1].startswith("head") or name == "mine"


def test_groups_of_layers_are_numbered_for_all_kinds_of_layers():
    for name in ("gru", "gru-scratch", "awd-lstm", "transformer", "min-gru", "mamba2"):
        groups = layer_groups(build(name, 10, n_embed=8, n_layers=2))
        assert [group for group in groups if group[-1].isdigit()] == ["layers.0", "layers.1"], name


def test_frozen_groups_keep_their_weights(cycle):
    state, listed = make(cycle, freeze=("embed", "layers.0"))
    record = Record()
    fit(state, [*listed[:-1], record])
    assert record.changed == [["layers.1", "head"]] * 33
    assert all(parameter.requires_grad for parameter in state.model.parameters())  # again, for what comes after


def test_gradual_unfreezing_goes_from_head_to_embedding(cycle):
    state, listed = make(cycle, unfreeze_epochs=0.5, freeze=("layers.1",))
    record = Record()
    fit(state, [*listed[:-1], record])
    assert record.changed == [["head"]] * 6 + [["layers.0", "head"]] * 5 + [["embed", "layers.0", "head"]] * 22


def test_groups_have_learning_rates_of_their_own(cycle):
    state, listed = make(cycle, group_rates=(0.0, 0.5, 1.0))
    rates = []
    record = Record(lambda state: rates.append([group["lr"] for group in state.optimizer.param_groups]))
    fit(state, [*listed[:-1], record])
    assert record.changed == [GROUPS[1:]] * 33
    assert all(first == 0 and between == same == last / 2 for first, between, same, last in rates)


@pytest.mark.parametrize("stop", [4, 10, 17])
def test_resuming_is_bit_exact_with_frozen_groups_and_rates_of_their_own(cycle, stop):
    changes = {"unfreeze_epochs": 0.4, "group_rates": (0.1, 0.3, 0.5, 1.0), "optimizer": "adamw", "weight_decay": 0.1}
    stored = []

    def keep(state):
        if state.step == stop:
            learned = {name: weight.detach().clone() for name, weight in weights.weights_of(state.model).items()}
            stored.append((learned, snapshot(state, listed)))

    whole, listed = make(cycle, **changes)
    fit(whole, [*listed, Record(keep)])
    [(learned, (packed, tensors))] = stored
    state, listed = make(cycle, **changes)
    weights.set_weights(state.model, learned)
    restore(state, listed, json.loads(json.dumps(packed)), tensors)
    fit(state, listed)
    for name, weight in weights.weights_of(whole.model).items():
        assert torch.equal(weight, weights.weights_of(state.model)[name]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_takes_groups_that_join_later(cycle, optimizer):
    state, listed = make(cycle, unfreeze_epochs=0.5, optimizer=optimizer)
    record = Record()
    fit(state, [*listed[:-1], record])
    assert record.changed[5] == ["head"] and record.changed[20] == GROUPS


def test_invalid_groups_are_refused_with_the_names_of_the_models_groups(cycle):
    with pytest.raises(
        UsageError, match=r"no layer group 'layer\.0'; the model has: embed, layers\.0, layers\.1, head"
    ):
        make(cycle, freeze=("layer.0",))
    with pytest.raises(UsageError, match=r"all layer groups are frozen and nothing is left to train"):
        make(cycle, freeze=("embed", "layers", "head"))
    with pytest.raises(UsageError, match=r"2 for 4 layer groups \(embed, layers\.0, layers\.1, head\)"):
        make(cycle, group_rates=(0.1, 1.0))
    with pytest.raises(UsageError, match=r"model ngram has no weights; leave out --freeze"):
        session.train(Recipe(model="ngram", freeze=("embed",)), TEXT)


def test_three_rates_are_those_of_the_first_those_between_and_the_last():
    groups = dict.fromkeys(GROUPS, [])
    assert rate_factors(groups, (1, 2, 3)) == {"embed": 1, "layers.0": 2, "layers.1": 2, "head": 3}


@pytest.mark.parametrize("name", [name for name, cls in MODELS.items() if cls.uses_gradients])
def test_every_model_trains_with_a_frozen_embedding_and_gradual_unfreezing(name):
    options = {key: value for key, value in SMALL.items() if key in options_of(name)}
    recipe = Recipe(model=name, options=options, freeze=("embed",), unfreeze_epochs=0.3, epochs=1, bptt=8)
    assert session.train(recipe, TEXT).metadata.result["valid_nats"] > 0

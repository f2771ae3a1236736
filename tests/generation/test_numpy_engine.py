"""Numpy engines of the recurrent family give the logits and texts of the models, and refuse what does not fit."""

from itertools import islice

import numpy as np
import pytest
import torch
from architectures import make_model

from charlm.generation.numpy_engine import ENGINES, make_engine
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream
from charlm.generation.torch_stepper import TorchStepper, make_stepper
from charlm.models import MODELS, CountingModel, build, options_of
from charlm.storage.weights import weights_of

V, B, T = 23, 3, 200
RECURRENT = [name for name in ENGINES if not issubclass(MODELS[name], CountingModel)]
WITH_STATE = [name for name in RECURRENT if MODELS[name].n_context is None]
STACKED = [name for name in RECURRENT if "n_layers" in options_of(name)]
SIZES = {"n_embed": 7, "n_hidden": 13}
CASES = (
    [(name, SIZES) for name in RECURRENT]
    + [(name, SIZES | {"n_layers": 3, "dropout": 0.5}) for name in STACKED]
    + [(name, SIZES | {"tied": True, "head_dropout": 0.5}) for name in STACKED]
    + [(name, SIZES | {"n_layers": 2, "nonlinearity": "relu"}) for name in ("rnn", "rnn-scratch")]
    + [(name, {"n_embed": 8, "n_hidden": 8, "n_layers": 2, "tied": True}) for name in STACKED]
)


def engine_of(model, without=(), config=(), n_context=None, **weights):
    arrays = {name: weight.detach().numpy() for name, weight in weights_of(model).items()} | weights
    arrays = {name: array for name, array in arrays.items() if name not in without}
    return make_engine(model.name, arrays, model.config | dict(config), V, n_context or model.n_context, None)


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] in WITH_STATE])
def test_single_characters_give_the_logits_of_the_model(name, options):
    model, chars = build(name, V, **options).eval(), torch.randint(V, (1, T))
    engine, wanted = engine_of(model), model(chars)[0][0].numpy()
    found = np.stack([engine.read([char]) for char in chars[0].tolist()])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32
    engine.reset()
    np.testing.assert_array_equal(engine.read(chars[0].tolist()), found[-1])


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] in WITH_STATE])
def test_several_texts_with_a_common_beginning_are_read_at_once(name, options):
    model, chars = build(name, V, **options).eval(), torch.randint(V, (B, 30))
    chars[:, :10] = chars[0, :10]
    engine = engine_of(model)
    engine.read(chars[0, :10].tolist())
    found = engine.read(list(chars[:, 10:].numpy().T))
    np.testing.assert_allclose(found, model(chars)[0][:, -1].numpy(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_window_is_read_from_the_initial_state():
    model, chars = build("char3", V, **SIZES), torch.randint(V, (B, 3))
    engine = engine_of(model)
    for row in chars:
        engine.reset()
        np.testing.assert_allclose(engine.read(row.tolist()), model(row[None])[0][0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_and_forward_pass_sample_the_same_text(name):
    model, params = make_model(name, V), SamplingParams(1.0)
    steppers = make_stepper(model, model.n_context), TorchStepper(model)
    assert not isinstance(steppers[0], TorchStepper)
    texts = [
        list(islice(generate_ids(stepper, [1, 2, 3], uniform_stream(4), params, model.n_context), T))
        for stepper in steppers
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_missing_extra_or_wrong_weights_have_no_engine(name, options):
    model = build(name, V, **options)
    assert engine_of(model) is not None
    for key, weight in weights_of(model).items():
        array = weight.detach().numpy()
        assert engine_of(model, without=[key]) is None
        for wrong in (array[:-1], array[None], array.astype(np.int16), array[:0]):
            assert engine_of(model, **{key: wrong}) is None
    assert engine_of(model, bonus=np.zeros(2, np.float32)) is None


@pytest.mark.parametrize("name", RECURRENT)
def test_wrong_or_unknown_options_have_no_engine(name):
    model = build(name, V, **SIZES)
    for key, value in model.config.items():
        for wrong in (None, -1, 1.5, "x", float("nan"), 10**30, not value):
            assert engine_of(model, config={key: wrong}) is None
    assert engine_of(model, config={"new": 1}) is None


def test_diverged_weights_have_no_engine():
    model = build("gru", V, **SIZES)
    assert engine_of(model, **{"embed.weight": np.full((V, 7), np.inf, np.float32)}) is None


def test_other_models_are_sampled_by_their_forward_pass():
    class Subclass(MODELS["gru"]):
        pass

    assert isinstance(make_stepper(build("gru", V).double()), TorchStepper)
    assert isinstance(make_stepper(Subclass(V)), TorchStepper)
    assert isinstance(make_stepper(build("char3", V), n_context=4), TorchStepper)
    assert isinstance(make_stepper(build("transformer", V)), TorchStepper)
    assert isinstance(make_stepper(make_model("ngram", V), n_texts=2), TorchStepper)

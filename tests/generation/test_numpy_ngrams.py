"""Numpy engines of the models that count give the logits of the models, and refuse what does not fit."""

from itertools import islice

import numpy as np
import pytest
import torch

from charlm.generation.numpy_engine import make_engine
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream, uniform_streams
from charlm.generation.torch_stepper import TorchStepper
from charlm.models import build
from charlm.storage.weights import weights_of

V, T = 23, 300
N_FREQUENT = 4
LOWER = torch.arange(V).where(torch.arange(V) != 5, 1)
CASES = {
    "ngram": [{"order": 1, "smoothing": "witten-bell"}, {"order": 4}],
    "word-ngram": [{"order": 1}, {"order": 4}],
    "lstm-ngram": [
        {"n_embed": 5, "n_hidden": 16, "order": 1},
        {"n_embed": 7, "n_hidden": 13, "n_layers": 3, "order": 3, "words": False, "folded_words": True},
        {"n_embed": 8, "n_hidden": 8, "n_layers": 2, "tied": True, "order": 3, "head_dropout": 0.5},
        {"n_embed": 5, "n_hidden": 9, "tied": True, "dropout": 0.5, "words": False, "cache_model": False},
        {"n_embed": 9, "n_hidden": 5, "order": 2, "folded_words": True},
        {"n_embed": 9, "n_hidden": 5, "cache_model": False, "input_dropout": 0.5, "folded_words": True},
    ],
}
MODELS = [pytest.param(name, options, id=f"{name}-{i}") for name in CASES for i, options in enumerate(CASES[name])]


def counted(name, options):
    """Return a model with counts and parameters away from their initial values."""
    model = build(name, V, **options).eval()
    model.fit_counts(torch.randint(1, N_FREQUENT, (300,)), torch.arange(V, dtype=torch.uint8) % 4, LOWER)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def engine_of(model, without=(), config=(), **weights):
    arrays = {name: weight.detach().numpy() for name, weight in weights_of(model).items()} | weights
    arrays = {name: array for name, array in arrays.items() if name not in without}
    return make_engine(model.name, arrays, model.config | dict(config), V, None)


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), MODELS)
def test_character_by_character_the_logits_are_those_of_the_model(name, options):
    model, chars = counted(name, options), torch.randint(V, (1, T))
    chars[:, T // 2 :] %= N_FREQUENT
    engine, wanted = engine_of(model), model(chars)[0][0].numpy()
    found = np.stack([engine.read([char]) for char in chars[0].tolist()])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32
    engine.reset()
    np.testing.assert_array_equal(engine.read(chars[0].tolist()), found[-1])


@torch.no_grad()
@pytest.mark.parametrize("options", CASES["lstm-ngram"])
def test_several_texts_with_a_common_beginning_are_read_at_once(options):
    model, chars = counted("lstm-ngram", options), torch.randint(N_FREQUENT, (3, 100))
    chars[:, :50] = chars[0, :50]
    engine = engine_of(model)
    for _ in range(2):
        engine.read(chars[0, :50].tolist())
        found = engine.read(list(chars[:, 50:].numpy().T))
        np.testing.assert_allclose(found, model(chars)[0][:, -1].numpy(), rtol=1e-5, atol=1e-5)
        engine.reset()


@torch.no_grad()
@pytest.mark.parametrize("options", CASES["lstm-ngram"])
def test_with_a_frozen_cache_the_logits_are_those_of_the_model_too(options):
    model, chars = counted("lstm-ngram", options), torch.randint(N_FREQUENT, (T,)).tolist()
    for n_prompt in (0, 1, 100):
        engine, forward = engine_of(model), TorchStepper(model)
        for i, char in enumerate(chars):
            if i >= n_prompt:
                engine.freeze_cache()
                forward.freeze_cache()
            np.testing.assert_allclose(engine.read([char]), forward.read([char]), rtol=1e-5, atol=1e-5)


def test_while_sampling_the_cache_model_reads_the_prompt_alone_its_own_text_or_nothing():
    model, prompt = counted("lstm-ngram", CASES["lstm-ngram"][0]), [1, 2, 3, 1, 2, 3, 1, 1, 2]
    model.head.expert_weights.bias.data[2:] = 2.0
    texts = {}
    for mode in ("prompt", "own", "off"):
        params = SamplingParams(temperature=0.5, cache_model=mode)
        texts[mode], forward = (
            list(islice(generate_ids(stepper, prompt, uniform_stream(3), params), 150))
            for stepper in (engine_of(model), TorchStepper(model))
        )
        assert texts[mode] == forward
        for stepper in (engine_of(model), TorchStepper(model, 2)):
            batch = generate_ids(stepper, prompt, uniform_streams([3, 4]), params)
            assert [step[0] for step in islice(batch, 150)] == forward
    assert len(set(map(tuple, texts.values()))) == 3


@pytest.mark.parametrize("name", CASES)
def test_weights_that_do_not_fit_have_no_engine(name):
    model = counted(name, CASES[name][-1])
    for key, weight in weights_of(model).items():
        array = weight.detach().numpy()
        assert engine_of(model, without=[key]) is None
        for wrong in (array[:-1], array[None], array.astype(np.int16)):
            assert engine_of(model, **{key: wrong}) is None
    assert engine_of(model, bonus=np.zeros(2, np.float32)) is None
    assert engine_of(model) is not None


@pytest.mark.parametrize("name", CASES)
def test_options_that_do_not_fit_have_no_engine(name):
    model = counted(name, CASES[name][-1])
    for key, value in model.config.items():
        for wrong in (None, -1, 1.5, "x", float("nan"), 10**30, not value):
            assert engine_of(model, config={key: wrong}) is None
    assert engine_of(model, config={"new": 1}) is None

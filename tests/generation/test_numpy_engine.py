"""Steps in numpy are the models: the same logits, and the same text for the same seed, for every one of MODELS."""

import math
from itertools import islice

import numpy as np
import pytest
import torch

from charlm.generation import generator
from charlm.generation.sampler import SamplingParams, columns, generate_ids, uniform_stream
from charlm.generation.steps import STEPS, Steps, agrees, base, prepare, transformer
from charlm.generation.torch_stepper import TorchStepper, generate, make_stepper
from charlm.models import MODELS, CountingModel, build, options_of
from charlm.storage import checkpoint, weights
from charlm.storage.checkpoint import Metadata

V, B, T = 23, 3, 300
N_FREQUENT = 4
DECODERS = ("head.2.weight", "head.base_head.2.weight")  # a tied head has none of its own
READERS = [name for name in MODELS if MODELS[name].n_context is None]
SIZES = [
    {"n_embed": 5, "n_hidden": 16, "n_layers": 1, "order": 1, "smoothing": "witten-bell"},
    {"n_embed": 7, "n_hidden": 13, "n_layers": 3, "init": "identity", "order": 3, "head_size": 4, "window_size": 70},
    {"n_embed": 8, "n_hidden": 8, "n_layers": 2, "tied": True, "init": "identity", "head_dropout": 0.5},
    {"n_embed": 5, "n_hidden": 9, "tied": True, "dropout": 0.5, "n_heads": 2, "n_state": 3, "n_rounds": 2, "rank": 3}
    | {"head_size": 2, "window_size": 9, "words": False},
    {"n_embed": 9, "n_hidden": 5, "n_rounds": 1, "n_heads": 3, "rank": 9, "words": False, "cache_model": False},
]
CASES = [
    pytest.param(name, known, id=f"{name}-{i}")
    for name in MODELS
    for i, known in enumerate({k: s[k] for k in s.keys() & options_of(name).keys()} for s in SIZES)
]


def made(name, options):
    """Return a model whose parameters are all away from what they begin with, ones and zeros among them."""
    model = build(name, V, **options).eval()
    if isinstance(model, CountingModel):
        char_classes = torch.arange(V, dtype=torch.uint8) % 4  # letters, blanks and others, among what is frequent, too
        model.fit_counts(torch.randint(1, N_FREQUENT, (300,)), char_classes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)  # more, and some become chaotic
    return model


def read_text(n_texts, n_chars):
    """Return indices, (n_texts, n_chars), any at first, then some that are frequent in what `made` counts."""
    chars = torch.randint(V, (n_texts, n_chars))
    chars[:, n_chars // 2 :] %= N_FREQUENT
    return chars


def weights_of(model):
    return {name: weight.detach().numpy() for name, weight in weights.weights_of(model).items()}


def steps_of(name, model, **changes):
    return prepare(
        name, weights_of(model) | changes, (model.config | {"vocab_size": model.vocab_size}), model.n_context
    )


def test_every_model_has_steps():
    assert set(STEPS) == set(MODELS)


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case.values[0] in READERS])
def test_step_by_step_the_logits_are_those_of_the_model(name, options):
    model = made(name, options)
    steps, chars = steps_of(name, model), read_text(1, T)
    wanted = model(chars)[0][0].numpy()
    found = np.stack([steps.read([char]).copy() for char in chars[0].tolist()])
    # Where a norm divides by little, float32 is far from exact, in the model as in its steps.
    exact = model.double()(chars)[0][0].numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=max(1e-5, 4 * np.abs(wanted - exact).max()))
    steps.reset()
    at_once = steps.read(chars[0].tolist())
    if steps.n_reach >= T:
        np.testing.assert_array_equal(at_once, found[-1])
    np.testing.assert_allclose(at_once, found[-1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case.values[0] in READERS])
def test_many_texts_read_as_each_alone_from_where_they_part(name, options):
    model = made(name, options)
    steps, chars = steps_of(name, model), read_text(B, 30)
    chars[:, :10] = chars[0, :10]
    steps.read(chars[0, :10].tolist())
    for step in range(10, 30):
        found = steps.read([chars[:, step].numpy()])
    np.testing.assert_allclose(found, model(chars)[0][:, -1].numpy(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_window_is_read_from_its_beginning():
    model = made("char3", {"n_embed": 5, "n_hidden": 7})
    steps, chars = steps_of("char3", model), torch.randint(V, (B, 3))
    for row in chars:
        steps.reset()
        np.testing.assert_allclose(steps.read(row.tolist()), model(row[None])[0][0, 0].numpy(), atol=1e-5)
    steps.reset()
    np.testing.assert_allclose(steps.read(list(chars.numpy().T)), model(chars)[0][:, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES[1 :: len(SIZES)])
def test_the_same_seed_writes_the_same_text_both_ways(name, options):
    model, n_context = made(name, options), MODELS[name].n_context
    readers = make_stepper(model, n_context), TorchStepper(model)
    assert isinstance(readers[0], Steps)
    texts = [list(islice(generate(reader, [1, 2, 3], n_context, seed=4), T)) for reader in readers]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_any_architecture_is_read_without_pytorch(name, tmp_path):
    model, n_context, options = made(name, {}), MODELS[name].n_context, options_of(name)
    checkpoint.save(tmp_path / "x", model, Metadata(name, options, V, [*range(1, V)], False, n_context))
    wanted = make_stepper(model, n_context).read([1, 2, 3])
    np.testing.assert_array_equal(generator.load(tmp_path / "x").reader().read([1, 2, 3]), wanted)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_context", [None, 3])
def test_texts_written_at_once_are_those_written_alone(name, n_context):
    if MODELS[name].n_context not in (None, n_context):
        return
    sizes = {"n_embed": 5, "n_hidden": 6, "n_layers": 2, "order": 3}
    options = {key: sizes[key] for key in sizes.keys() & options_of(name)}
    model, prime, choice = made(name, options), [1, 2, 3, 4], SamplingParams(0.9, top_p=0.95)
    alone = [
        list(islice(generate_ids(make_stepper(model, n_context), prime, uniform_stream(i), choice, n_context), 30))
        for i in range(B)
    ]
    numbers = map(np.array, zip(*(uniform_stream(i) for i in range(B)), strict=True))
    steps = generate_ids(make_stepper(model, n_context, B), prime, numbers, choice, n_context)
    assert [list(islice(column, 30)) for column in columns(steps, B)] == alone


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_options_shown_by_the_weights_are_those_of_the_model(name, options):
    everything = options_of(name) | options
    model = made(name, everything)
    weights = weights_of(model)
    if options.get("tied"):
        weights = {key: weight for key, weight in weights.items() if key not in DECODERS}  # as a checkpoint stores it
    steps = prepare(name, weights, (model.config | {"vocab_size": model.vocab_size}), model.n_context)
    assert agrees(steps, everything)
    for key in everything:
        assert not agrees(steps, {k: v for k, v in everything.items() if k != key}) or "dropout" in key or key == "init"
    wrong = {"n_embed": 6, "n_hidden": 6, "n_layers": 9, "tied": not options.get("tied"), "init": "x", "dropout": 1.0}
    wrong |= {"order": 33, "smoothing": "none", "head_size": 6, "window_size": 3}
    for key in wrong.keys() & everything.keys():
        assert not agrees(steps, everything | {key: wrong[key]})
    assert not agrees(steps, everything | {"new": 1})


@pytest.mark.parametrize("name", MODELS)
def test_weights_that_do_not_fit_have_no_steps(name):
    sizes = {"n_embed": 5, "n_hidden": 6, "n_layers": 2, "n_rounds": 2, "rank": 4}
    model = made(name, {key: sizes[key] for key in sizes.keys() & options_of(name)})
    for key, weight in weights_of(model).items():
        others = weights_of(model)
        del others[key]
        if key not in DECODERS:
            assert prepare(name, others, (model.config | {"vocab_size": model.vocab_size}), model.n_context) is None
        assert steps_of(name, model, **{key: weight[:-1]}) is None
        assert steps_of(name, model, **{key: weight[None]}) is None
        assert steps_of(name, model, **{key: weight.astype(np.int16)}) is None
    assert steps_of(name, model, bonus=np.zeros(2, np.float32)) is None
    assert steps_of("gruu", model) is None


@pytest.mark.parametrize("name", MODELS)
def test_what_is_told_has_to_fit(name):
    model = made(name, {})
    for key, value in (model.config | {"vocab_size": model.vocab_size}).items():
        others = () if key == "window_size" else (10**30, type(value)(1))  # any memory would do
        for wrong in (None, 0, -1, 1.5, "x", True, float("nan"), *others):
            assert (
                prepare(
                    name,
                    weights_of(model),
                    (model.config | {"vocab_size": model.vocab_size}) | {key: wrong},
                    model.n_context,
                )
                is None
            )
        assert prepare(name, weights_of(model), {}, model.n_context) is None


def test_a_model_of_other_numbers_or_of_another_class_is_read_by_pytorch():
    class Own(MODELS["gru"]):
        pass

    assert isinstance(make_stepper(made("gru", {}).double()), TorchStepper)
    assert isinstance(make_stepper(Own(V)), TorchStepper)
    assert isinstance(make_stepper(made("char3", {}), n_context=4), TorchStepper)


def test_gelu_is_the_usual_one():
    x = np.concatenate([np.linspace(-12, 12, 10_001), [-1e30, -100, -0.0, 1e-30, 90, 1e30]]).astype(np.float32)
    wanted = [value * math.erfc(-value / math.sqrt(2)) / 2 for value in x.tolist()]
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(transformer.gelu(x), wanted, rtol=3e-7, atol=1e-6)


def test_the_quicker_tanh_of_many_numbers_is_the_usual_one():
    x = np.concatenate([np.linspace(-20, 20, 10_001), [-1e30, -100, -0.0, 1e-30, 90, 1e30]]).astype(np.float32)
    with np.errstate(over="ignore"):
        found = base.tanh(x.copy(), np.empty_like(x))
        few = base.tanh(x[-6:].copy(), np.empty_like(x[-6:]))
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=0, atol=3e-7)
    np.testing.assert_allclose(few, found[-6:], rtol=0, atol=3e-7)

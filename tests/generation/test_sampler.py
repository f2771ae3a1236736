"""Sampling: probabilities, draws, and the characters that the model reads meanwhile."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.errors import CharlmError, UsageError
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream, uniform_streams
from charlm.generation.torch_stepper import TorchStepper, make_stepper
from charlm.models import build, options_of

V = 9
PROBS = torch.tensor([0.0, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
LOGITS = np.log(np.array([1e4, 0.1, 0.4, 0.2, 0.3], np.float32))  # index 0 has the largest
WINDOWS = [("char3", 3), ("loop", 1), ("loop", 4), ("lstm", 4)]


def take(n, iterator):
    return list(itertools.islice(iterator, n))


def small(name):
    sizes = {"n_embed": 5, "n_hidden": 8}
    return build(name, V, **{key: sizes[key] for key in sizes.keys() & options_of(name)})


def generate(stepper, context_ids, n_context=None, seed=1, **sampling):
    return generate_ids(
        stepper, context_ids, uniform_stream(seed), SamplingParams(**{"temperature": 1.0} | sampling), n_context
    )


def probs_of(logits, **sampling):
    weights = SamplingParams(**{"temperature": 1.0} | sampling).unnormalized_probs(logits)
    return weights / weights.sum(axis=-1, keepdims=True)


def recorded(model):
    """Return two lists that receive what the model reads and the logits that it returns."""
    inputs, outputs = [], []
    model.register_forward_hook(lambda module, args, result: inputs.append(args[0].clone()))
    model.register_forward_hook(lambda module, args, result: outputs.append(result[0].clone()))
    return inputs, outputs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0}, [0, 0, 1, 0, 0]),
        ({"temperature": 1e-9}, [0, 0, 1, 0, 0]),
        ({"temperature": 1e-310}, [0, 0, 1, 0, 0]),
        ({"temperature": 0.5}, [0, 0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        ({"temperature": 1e9}, [0, 0.25, 0.25, 0.25, 0.25]),
        ({"top_k": 1}, [0, 0, 1, 0, 0]),
        ({"top_k": 2}, [0, 0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 100}, [0, 0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 1e-9}, [0, 0, 1, 0, 0]),
        ({"top_p": 0.39}, [0, 0, 1, 0, 0]),
        ({"top_p": 0.41}, [0, 0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.71}, [0, 0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 1}, [0, 0.1, 0.4, 0.2, 0.3]),
        ({"min_p": 1}, [0, 0, 1, 0, 0]),
        ({"min_p": 0.76}, [0, 0, 1, 0, 0]),
        ({"min_p": 0.74}, [0, 0, 4 / 7, 0, 3 / 7]),
        ({"min_p": 0.1}, [0, 0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5, "min_p": 0.5}, [0, 0, 16 / 25, 0, 9 / 25]),  # temperature is applied first
        ({"top_k": 3, "top_p": 0.41}, [0, 0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 2, "min_p": 0.1}, [0, 0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_probabilities_are_those_computed_by_hand(options, expected):
    probs = probs_of(LOGITS, **options)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(probs_of(np.stack([LOGITS, LOGITS[::-1], LOGITS]), **options)[::2], [probs] * 2)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=20),
    st.sampled_from([0, 1e-9, 0.3, 1, 3, 1e18]),
    st.none() | st.integers(1, 30),
    st.none() | st.floats(1e-6, 1),
    st.none() | st.floats(1e-6, 1),
)
def test_index_0_has_no_probability_and_the_most_probable_is_always_kept(logits, temperature, top_k, top_p, min_p):
    logits = np.array(logits, np.float32)
    before = logits.copy()
    probs = probs_of(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert probs.sum() == pytest.approx(1)
    assert probs[0] == 0
    assert (probs >= 0).all()
    unrestricted = probs_of(logits, temperature=temperature)
    assert unrestricted[probs > 0].max() == unrestricted.max()
    assert np.array_equal(logits, before)


def test_among_equal_probabilities_as_many_are_kept_as_requested():
    assert (probs_of(np.zeros(6), top_k=2) > 0).sum() == 2
    assert (probs_of(np.zeros(6), top_p=0.5) > 0).sum() == 3  # 0.2 each
    assert (probs_of(np.zeros(6), min_p=1.0) > 0).sum() == 5


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error(wrong):
    logits = np.array([[0, 1, 2], [0, wrong, 2]], np.float32)
    for row in (logits, logits[1]):
        with pytest.raises(CharlmError, match="not finite"):
            probs_of(row)


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"temperature": 0}, {"temperature": 0.7, "min_p": 0.9}], ids=str)
@pytest.mark.parametrize("logits", [[5, 0, 0, 0], [5, 3, -1e9, -1e9], [5, -1e9, 3, -1e9], [5, -1e9, 1, 3]], ids=str)
def test_an_index_without_probability_is_never_sampled(logits, options):
    smallest, largest = 0.0, 1 - 2**-53  # uniform numbers
    logits, params = np.array(logits, np.float32), SamplingParams(**options)
    first, last = np.flatnonzero(probs_of(logits, **options))[[0, -1]]
    assert params.sample(logits, smallest) == first
    assert params.sample(logits, largest) == last
    assert params.sample(np.stack([logits, logits]), np.array([smallest, largest])).tolist() == [first, last]
    assert params.sample(logits, np.array([smallest, largest])).tolist() == [first, last]


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(2, 30), st.integers(0, 2**32))
def test_many_texts_get_the_indices_that_each_gets_alone(n_texts, vocab_size, seed):
    generator = np.random.default_rng(seed)
    logits, uniform = generator.normal(size=(n_texts, vocab_size)).astype(np.float32), generator.random(n_texts)
    for params in (
        SamplingParams(1.0),
        SamplingParams(0),
        SamplingParams(0.5, top_k=3),
        SamplingParams(2.0, top_p=0.5),
    ):
        alone = [params.sample(row, number) for row, number in zip(logits, uniform.tolist(), strict=True)]
        assert params.sample(logits, uniform).tolist() == alone


def test_the_uniform_numbers_of_a_seed_are_those_of_pcg64():
    generator = np.random.Generator(np.random.PCG64(7))
    assert take(1000, uniform_stream(7)) == [generator.random() for _ in range(1000)]
    many = np.array(take(1000, uniform_streams([5, 7])))
    assert many.T.tolist() == [take(1000, uniform_stream(seed)) for seed in (5, 7)]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_a_usage_error(seed):
    with pytest.raises(UsageError, match="seed must be"):
        uniform_stream(seed)


def test_draws_have_the_probabilities(fixed_probs):
    n, stepper = 4000, TorchStepper(fixed_probs([0.5, 0.2, 0.15, 0.1, 0.05]))
    counts = torch.bincount(torch.tensor(take(n, generate(stepper, [1], seed=3))), minlength=5)
    expected = n * PROBS
    assert counts[0] == 0
    chi_square = (((counts - expected) ** 2) / expected)[1:].sum().item()
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("name", "n_context"), [("gru", None), ("loop", 4)])
def test_a_seed_determines_the_text(name, n_context):
    model = small(name)
    texts = [take(40, generate(make_stepper(model), [1, 2, 3, 4], n_context, seed)) for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


def test_sampling_leaves_the_global_random_generator_unchanged():
    stepper, before = TorchStepper(small("gru")), torch.get_rng_state()
    take(5, generate(stepper, [1]))
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_the_likelihood_of_a_sampled_text_agrees_with_the_entropy_of_the_model(name):
    n, model = 800, small(name)
    for parameter in model.head.parameters():
        parameter.mul_(12)  # far from uniform
    drawn = take(n, generate(make_stepper(model), [1], seed=2))
    logits = model(torch.tensor([[1, *drawn[:-1]]]))[0][0].double()
    logits[:, 0] = -math.inf  # index 0 is never sampled
    log_probs = logits.log_softmax(-1)
    nats = -log_probs.gather(1, torch.tensor(drawn).unsqueeze(1)).squeeze(1)
    probs, log_probs = log_probs.exp()[:, 1:], log_probs[:, 1:]
    entropy = -(probs * log_probs).sum(1)
    variance = (probs * (-log_probs - entropy.unsqueeze(1)) ** 2).sum(1)
    assert entropy.mean() < 0.95 * math.log(V - 1)
    assert abs((nats - entropy).sum()) < 4 * variance.sum().sqrt()  # a sum of steps with mean 0


@torch.no_grad()
@pytest.mark.parametrize("name", ["gru", "lstm", "transformer"])
def test_every_character_is_read_once_and_one_position_is_predicted(name):
    model, prompt = small(name), [1, 5, 2]
    inputs, outputs = recorded(model)
    drawn = take(6, generate(TorchStepper(model), prompt))
    assert [chars.tolist() for chars in inputs] == [[prompt]] + [[[index]] for index in drawn[:-1]]
    whole, _ = model(torch.tensor([prompt + drawn[:-1]]))
    torch.testing.assert_close(torch.cat(outputs[:6], dim=1), whole[:, len(prompt) - 1 :])


@torch.no_grad()
@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_long_prompt_is_read_in_parts(name):
    model, prompt = small(name), torch.randint(V, (9000,)).tolist()
    inputs, _ = recorded(model)
    logits = TorchStepper(model).read(prompt)
    assert sum((chars[0].tolist() for chars in inputs), []) == prompt and max(map(torch.numel, inputs)) <= 4096
    np.testing.assert_allclose(logits, model(torch.tensor([prompt]))[0][0, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "n_context"), WINDOWS)
def test_a_window_slides_over_prompt_and_text(name, n_context):
    model, prompt = small(name), [1, 5, 2, 7, 3, 3, 8, 4]
    inputs, _ = recorded(model)
    text = prompt[-n_context:] + take(9, generate(TorchStepper(model), prompt, n_context))
    assert [chars.tolist() for chars in inputs] == [[text[i : i + n_context]] for i in range(9)]


def test_a_window_longer_than_the_text_grows():
    inputs, _ = recorded(model := small("loop"))
    text = [1, *take(5, generate(TorchStepper(model), [1], n_context=3))]
    assert [chars.tolist() for chars in inputs] == [[text[max(0, i - 2) : i + 1]] for i in range(5)]


def test_dropout_is_off_and_the_prompt_unchanged():
    model = build("gru", V, n_hidden=8, n_layers=2, dropout=0.5, head_dropout=0.5).train()
    prompt = [1, 2, 3]
    texts = [take(20, generate(TorchStepper(model.train()), prompt, temperature=0)) for _ in range(2)]
    assert texts[0] == texts[1]
    assert prompt == [1, 2, 3]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("temperature", (-0.1, math.inf, math.nan)),
        ("top_k", (0, -1)),
        ("top_p", (0, -0.1, 1.1, math.nan)),
        ("min_p", (0, -0.1, 1.1, math.nan)),
    ],
)
def test_a_sampling_option_out_of_range_is_a_usage_error(option, values):
    for value in values:
        with pytest.raises(UsageError, match=f"{option} must be"):
            SamplingParams(**{option: value})

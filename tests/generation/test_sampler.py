"""Drawing characters: the probabilities to draw from, the draws, and what the model reads meanwhile."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.errors import CharlmError, UsageError
from charlm.generation.sampler import SamplingParams, uniform_stream, uniform_streams
from charlm.generation.torch_stepper import TorchStepper, generate
from charlm.models import MODELS, CountingModel, build, options_of

V = 9
PROBS = torch.tensor([0.0, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
# The same, in another order than by size, and index 0 the most probable of all.
LOGITS = np.log(np.array([1e4, 0.1, 0.4, 0.2, 0.3], np.float32))
READERS = [name for name, architecture in MODELS.items() if architecture.n_context is None]
WINDOWS = [("char3", 3), ("loop", 1), ("loop", 4), ("lstm", 4)]


def take(n, indices):
    return list(itertools.islice(indices, n))


def small(name):
    sizes = {"n_embed": 5, "n_hidden": 8, "order": 3}
    model = build(name, V, **{key: sizes[key] for key in sizes.keys() & options_of(name)})
    if isinstance(model, CountingModel):
        model.fit_counts(torch.randint(V, (100,)))
    return model


def watched(model):
    """Return the lists of what a model reads and of the logits that it gives from now on."""
    read, given_back = [], []
    model.register_forward_hook(lambda module, inputs, outputs: read.append(inputs[0].clone()))
    model.register_forward_hook(lambda module, inputs, outputs: given_back.append(outputs[0].clone()))
    return read, given_back


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
        ({"temperature": 0.5, "min_p": 0.5}, [0, 0, 16 / 25, 0, 9 / 25]),  # the temperature comes first
        ({"top_k": 3, "top_p": 0.41}, [0, 0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 2, "min_p": 0.1}, [0, 0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_probabilities_are_those_computed_by_hand(options, expected):
    probs = SamplingParams(**options).probs(LOGITS)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(
        SamplingParams(**options).probs(np.stack([LOGITS, LOGITS[::-1], LOGITS]))[::2], [probs] * 2
    )


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=20),
    st.sampled_from([0, 1e-9, 0.3, 1, 3, 1e300]),
    st.none() | st.integers(1, 30),
    st.none() | st.floats(1e-6, 1),
    st.none() | st.floats(1e-6, 1),
)
def test_probabilities_sum_to_one_and_index_0_has_none(logits, temperature, top_k, top_p, min_p):
    logits = np.array(logits, np.float32)
    before = logits.copy()
    probs = SamplingParams(temperature, top_k, top_p, min_p).probs(logits)
    assert probs.sum() == pytest.approx(1)
    assert probs[0] == 0
    assert (probs >= 0).all()
    everything = SamplingParams(temperature).probs(logits)
    assert everything[probs > 0].max() == everything.max()  # the most probable is always kept
    assert np.array_equal(logits, before)


def test_of_equally_probable_ones_as_many_are_kept_as_asked_for():
    assert (SamplingParams(top_k=2).probs(np.zeros(6)) > 0).sum() == 2
    assert (SamplingParams(top_p=0.5).probs(np.zeros(6)) > 0).sum() == 3  # 0.2 each
    assert (SamplingParams(min_p=1.0).probs(np.zeros(6)) > 0).sum() == 5


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(wrong):
    logits = np.array([[0, 1, 2], [0, wrong, 2]], np.float32)
    for row in (logits, logits[1]):
        with pytest.raises(CharlmError, match="not a number"):
            SamplingParams().probs(row)


def test_what_has_no_probability_is_never_drawn_at_the_edges():
    all_reduce_max = 1 - 2**-53  # of the uniform numbers
    for logits in ([5, 0, 0, 0], [5, 3, -1e9, -1e9], [5, -1e9, 3, -1e9], [5, -1e9, 1, 3], [5, 0.1, 0.2, 0.3]):
        for choice in (SamplingParams(), SamplingParams(top_k=1), SamplingParams(0), SamplingParams(0.7, min_p=0.9)):
            probs = choice.probs(np.array(logits, np.float32))
            assert choice.index(np.array(logits, np.float32), 0.0) == np.flatnonzero(probs)[0]
            assert choice.index(np.array(logits, np.float32), all_reduce_max) == np.flatnonzero(probs)[-1]
            both = choice.index(np.array([logits, logits], np.float32), np.array([0.0, all_reduce_max]))
            assert both.tolist() == np.flatnonzero(probs)[[0, -1]].tolist()


@given(st.integers(1, 5), st.integers(2, 30), st.integers(0, 2**32))
def test_many_are_drawn_as_each_alone(n_texts, vocab_size, seed):
    generator = np.random.default_rng(seed)
    logits, uniform = generator.normal(size=(n_texts, vocab_size)).astype(np.float32), generator.random(n_texts)
    for choice in (SamplingParams(), SamplingParams(0), SamplingParams(0.5, top_k=3), SamplingParams(2.0, top_p=0.5)):
        alone = [choice.index(row, number) for row, number in zip(logits, uniform.tolist(), strict=True)]
        assert choice.index(logits, uniform).tolist() == alone


def test_uniform_numbers_are_those_of_a_generator_with_the_seed():
    generator = np.random.Generator(np.random.PCG64(7))
    assert take(1000, uniform_stream(7)) == [generator.random() for _ in range(1000)]
    many = np.array(take(1000, uniform_streams([5, 7, None])))
    assert many[:, 1].tolist() == take(1000, uniform_stream(7))
    assert many[:, 0].tolist() == take(1000, uniform_stream(5))


def test_draws_have_the_probabilities(fixed_probs):
    n = 4000
    model = fixed_probs([0.5, 0.2, 0.15, 0.1, 0.05])
    counts = torch.bincount(torch.tensor(take(n, generate(model, [1], seed=3))), minlength=5)
    expected = n * PROBS
    assert counts[0] == 0
    chi_square = (((counts - expected) ** 2) / expected)[1:].sum().item()
    assert chi_square < 16.3  # of 3 degrees of freedom: 1 in 1000


@pytest.mark.parametrize(("name", "n_context"), [("gru", None), ("loop", 4)])
def test_the_same_seed_gives_the_same_text_and_another_another(name, n_context):
    model = small(name)
    texts = [take(40, generate(model, [1, 2, 3, 4], n_context, seed=seed)) for seed in (5, 5, 6, None, None)]
    assert texts[0] == texts[1]
    assert len({tuple(text) for text in texts}) == 4


def test_sampling_does_not_touch_the_global_random_generator():
    model, before = small("gru"), torch.get_rng_state()
    take(5, generate(model, [1], seed=3))
    take(5, generate(model, [1]))
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
@pytest.mark.parametrize("name", READERS)
def test_step_by_step_the_logits_are_those_of_reading_at_once(name):
    model, prime = small(name), [1, 5, 2]
    _, given_back = watched(model)
    drawn = take(12, generate(TorchStepper(model), prime, seed=1))
    whole, _ = model(torch.tensor([prime + drawn[:-1]]))
    torch.testing.assert_close(torch.cat(given_back[:12], dim=1), whole[:, len(prime) - 1 :])


@torch.no_grad()
@pytest.mark.parametrize("name", READERS)
def test_the_likelihood_of_what_was_drawn_agrees_with_the_entropy_of_the_draws(name):
    n, model = 800, small(name)
    if model.uses_gradients:
        for parameter in model.head.parameters():
            parameter.mul_(12)  # far from uniform
    drawn = take(n, generate(model, [1], seed=2))
    logits = model(torch.tensor([[1, *drawn[:-1]]]))[0][0].double()
    logits[:, 0] = -math.inf  # no symbol, and never drawn
    log_probs = logits.log_softmax(-1)
    surprise = -log_probs.gather(1, torch.tensor(drawn).unsqueeze(1)).squeeze(1)
    probs, log_probs = log_probs.exp()[:, 1:], log_probs[:, 1:]
    entropy = -(probs * log_probs).sum(1)
    variance = (probs * (-log_probs - entropy.unsqueeze(1)) ** 2).sum(1)
    assert entropy.mean() < 0.95 * math.log(V - 1)
    assert abs((surprise - entropy).sum()) < 4 * variance.sum().sqrt()  # a sum of steps that are 0 in the mean


@pytest.mark.parametrize("name", READERS)
def test_every_character_is_read_once(name):
    model, prime = small(name), [1, 5, 2]
    read, given_back = watched(model)
    drawn = take(6, generate(TorchStepper(model), prime, seed=1))
    assert [chars.tolist() for chars in read] == [[prime]] + [[[index]] for index in drawn[:-1]]
    assert {logits.shape for logits in given_back} == {(1, 1, V)}  # and one position is paid for


@pytest.mark.parametrize(("name", "n_context"), WINDOWS)
def test_a_window_slides_over_the_text(name, n_context):
    model, prime = small(name), [1, 5, 2, 7][-n_context:]
    read, _ = watched(model)
    text = prime + take(9, generate(TorchStepper(model), prime, n_context, seed=1))
    assert [chars.tolist() for chars in read] == [[text[i : i + n_context]] for i in range(9)]


@pytest.mark.parametrize(("name", "n_context"), WINDOWS)
def test_of_a_long_prime_a_window_sees_the_end(name, n_context):
    model, prime = small(name), [1, 5, 2, 7, 3, 3, 8, 4]
    read, _ = watched(model)
    take(1, generate(TorchStepper(model), prime, n_context, seed=1))
    assert read[0].tolist() == [prime[-n_context:]]


def test_a_window_that_is_not_full_yet_grows():
    read, _ = watched(model := small("loop"))
    text = [1] + take(5, generate(TorchStepper(model), [1], n_context=3, seed=1))
    assert [chars.tolist() for chars in read] == [[text[max(0, i - 2) : i + 1]] for i in range(5)]


def test_the_prime_is_left_as_it_was_and_dropout_is_off():
    model = build("gru", V, n_hidden=8, n_layers=2, dropout=0.5, head_dropout=0.5).train()
    prime = [1, 2, 3]
    texts = [take(20, generate(model, prime, temperature=0)) for _ in range(2)]
    assert texts[0] == texts[1]
    assert prime == [1, 2, 3]


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("temperature", (-0.1, math.inf, math.nan), "temperature is"),
        ("top_k", (0, -1), "top-k is"),
        ("top_p", (0, -0.1, 1.1, math.nan), "top-p is"),
        ("min_p", (0, -0.1, 1.1, math.nan), "min-p is"),
    ],
)
def test_an_option_out_of_its_range_is_an_error_before_the_first_draw(option, values, message):
    for value in values:
        with pytest.raises(UsageError, match=message):
            generate(small("gru"), [1], **{option: value})

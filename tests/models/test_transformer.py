"""Transformer: attention equals its formula, the window slides, and the state replaces the earlier text."""

import cmath
import math
from itertools import islice

import pytest
import torch
from torch import nn

from charlm.errors import UsageError
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream
from charlm.generation.torch_stepper import TorchStepper
from charlm.models import build
from charlm.models.layers.attention import Attention, apply_rope, rope_angles

V, B, L, M = 11, 2, 2, 4
same = torch.testing.assert_close


def small(**options):
    sizes = {"n_embed": 8, "n_layers": L, "head_size": 4, "window_size": M}
    return build("transformer", V, **sizes | options).double().eval()


def in_segments(model, chars, length, state=None):
    """Return the logits of a text processed in segments, and the final state."""
    segments = []
    for segment in chars.split(length, dim=1):
        logits, state = model(segment, state)
        segments.append(logits)
    return torch.cat(segments, dim=1), state


def attention_by_formula(attention, x):
    """Compute attention, (T, E), for one text, (T, E), position by position, with complex numbers as rotations."""
    size, window_size = attention.head_size, attention.window_size
    queries, keys, values = attention.qkv_proj(x).chunk(3, dim=1)  # each (T, N D)

    def rotated(numbers, position):
        pairs = zip(numbers[: size // 2].tolist(), numbers[size // 2 :].tolist(), strict=True)
        return [complex(*pair) * cmath.exp(1j * position * 10_000 ** (-2 * i / size)) for i, pair in enumerate(pairs)]

    attended = torch.zeros_like(values)
    for head in range(0, queries.shape[1], size):
        here = slice(head, head + size)
        for t in range(len(x)):
            window = range(max(0, t - window_size), t + 1)
            q = rotated(queries[t, here], t)
            scores = [
                sum((a * b.conjugate()).real for a, b in zip(q, rotated(keys[s, here], s), strict=True)) for s in window
            ]
            weights = [math.exp(score / math.sqrt(size)) for score in scores]
            for s, weight in zip(window, weights, strict=True):
                attended[t, here] += weight / sum(weights) * values[s, here]
    return attention.out_proj(attended)


@torch.no_grad()
@pytest.mark.parametrize("size", [2, 4, 6])  # E = 8: 4, 2 and 1.33 heads
@pytest.mark.parametrize("window_size", [1, 3, 20])
def test_attention_equals_its_formula(size, window_size):
    attention = Attention(8, size, window_size).double()
    nn.init.normal_(attention.qkv_proj.weight)  # far from uniform attention
    x = torch.randn(1, 9, 8, dtype=torch.float64)
    expected, cache = attention_by_formula(attention, x[0]), None
    for t in range(9):  # segments of one character; each has position 0
        angles = rope_angles(0 if cache is None else -cache.shape[-2], 1, size, x)
        outputs, cache = attention(x[:, t : t + 1], cache, angles, None)
        same(outputs[0, 0], expected[t])
    if window_size >= 9:
        same(attention(x, None, rope_angles(0, 9, size, x), None)[0][0], expected)


@torch.no_grad()
@pytest.mark.parametrize("t", [8, 30])
def test_head_h_initially_attends_to_the_position_h_plus_1_steps_back(t):
    attention = Attention(64, 16, 32)
    queries, keys, _ = attention.qkv_proj.bias.view(3, 4, 1, 16)
    now, past = rope_angles(t, t + 1, 16, keys), rope_angles(0, t + 1, 16, keys)
    scores = apply_rope(queries, now) @ apply_rope(keys.expand(-1, t + 1, -1), past).mT / 4
    weights = scores.softmax(dim=-1)  # (4, 1, t + 1)
    assert weights.argmax(dim=-1).flatten().tolist() == [t - 1, t - 2, t - 3, t - 4]
    assert (weights.amax(dim=-1) > 0.4).all()


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 3, M, M + 1, 2 * M, 5 * M])
def test_segments_of_a_text_longer_than_the_window_equal_one_call(length):
    model, chars = small(), torch.randint(V, (B, 5 * M))
    whole, state_of_whole = model(chars)
    pieces, state = in_segments(model, chars, length)
    same(pieces, whole)
    same(state, state_of_whole)
    assert state.shape == (L, 2, B, 2, M, 4)


@torch.no_grad()
def test_causal_attention_and_masked_attention_agree():
    model, chars = small(window_size=20), torch.randint(V, (B, 20))
    same(in_segments(model, chars, 20)[0][:, 1:], model(chars[:, 1:], model(chars[:, :1])[1])[0])


@torch.no_grad()
def test_the_receptive_field_is_exactly_layers_times_window():
    model, chars = small(), torch.randint(V, (B, 5 * M))
    nn.init.normal_(model.embed.weight, std=3)
    reach = L * M
    for distance, has_effect in ((reach + 1, False), (reach, True), (1, True), (0, True)):
        other = chars.clone()
        other[:, -1 - distance] = (chars[:, -1 - distance] + 1) % V
        change = (model(other)[0] - model(chars)[0])[:, -1].abs().amax(dim=1)
        assert ((change > 0) == has_effect).all(), distance


@torch.no_grad()
def test_logits_in_float32_do_not_drift_with_the_length_of_the_text():
    model, chars = small().float(), torch.randint(V, (1, 600))
    long_past, fresh = model(chars)[0][:, -1], model(chars[:, -L * M - 1 :])[0][:, -1]
    same(long_past, fresh)


def test_gradients_pass_through_the_cache_within_a_call_and_reach_every_parameter():
    model, chars = small(dropout=0.3).train(), torch.randint(V, (B, 3 * M))
    logits, _ = model(chars)
    logits[:, -1].square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []
    unread = sorted(set(range(V)) - set(chars[:, -L * M - 1 :].flatten().tolist()))
    assert not model.embed.weight.grad[unread].any()
    assert (model.embed.weight.grad[chars[0, -L * M - 1]] != 0).any()


def test_dropout_has_an_effect_in_training_only():
    model, chars = small(dropout=0.5), torch.randint(V, (B, M))
    same(model(chars)[0], model(chars)[0], rtol=0, atol=0)
    assert not torch.equal(model.train()(chars)[0], model(chars)[0])


@torch.no_grad()
@pytest.mark.parametrize("from_bfloat16", [False, True])
def test_a_cache_of_another_precision_is_accepted(from_bfloat16):
    model, chars = small().float(), torch.randint(V, (B, 2 * M))
    expected, state = in_segments(model, chars, M)[0], None
    for i, piece in enumerate(chars.split(M, dim=1)):
        with torch.autocast("cpu", torch.bfloat16, enabled=(i == 0) == from_bfloat16):
            logits, state = model(piece, state)
    same(logits.float(), expected[:, M:], rtol=0, atol=0.05)


@torch.no_grad()
def test_under_bfloat16_autocast_the_cache_is_bfloat16():
    model, chars = small().float(), torch.randint(V, (B, 2 * M))
    with torch.autocast("cpu", torch.bfloat16):
        logits, state = in_segments(model, chars, 3)
    assert state.dtype == torch.bfloat16
    same(logits.float(), model(chars)[0], rtol=0, atol=0.05)


@pytest.mark.parametrize("n_embed", [1, 5, 33])
def test_n_embed_need_not_be_a_multiple_of_the_head_size(n_embed):
    assert small(n_embed=n_embed, head_size=32)(torch.randint(V, (B, M)))[0].shape == (B, M, V)


@torch.no_grad()
def test_sampling_with_state_equals_recomputing_the_receptive_field():
    model, prompt = small(window_size=2), [1, 5, 3, 3, 7, 2]
    texts = [
        list(islice(generate_ids(TorchStepper(model), prompt, uniform_stream(1), SamplingParams(1.0), n_context), 30))
        for n_context in (None, L * 2 + 1)
    ]
    assert texts[0] == texts[1]


def test_an_odd_head_size_is_a_usage_error():
    with pytest.raises(UsageError, match="head_size is 5; it must be even"):
        small(head_size=5)

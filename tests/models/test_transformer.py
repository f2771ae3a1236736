"""The transformer's attention is the formula's, its window slides, and its state is all that it needs of the past."""

import cmath
import math
from itertools import islice

import pytest
import torch
from torch import nn

from charlm.errors import UsageError
from charlm.generation.torch_stepper import generate
from charlm.models import build
from charlm.models.layers.attention import Attention, apply_rope, rope_angles

V, B, L, M = 11, 2, 2, 4
same = torch.testing.assert_close


def small(**options):
    sizes = {"n_embed": 8, "n_layers": L, "head_size": 4, "window_size": M}
    return build("transformer", V, **sizes | options).double().eval()


def in_pieces(model, chars, length, state=None):
    """Return the logits of a text that is read in pieces, and the last state."""
    pieces = []
    for piece in chars.split(length, dim=1):
        logits, state = model(piece, state)
        pieces.append(logits)
    return torch.cat(pieces, dim=1), state


def attention_by_formula(attention, x):
    """Return what one attention gathers, (T, E), for one text (T, E), position by position, with complex numbers."""
    size, window_size = attention.head_size, attention.window_size
    queries, keys, values = attention.qkv_proj(x).chunk(3, dim=1)  # each (T, N D)

    def turned(numbers, position):
        pairs = zip(numbers[: size // 2].tolist(), numbers[size // 2 :].tolist(), strict=True)
        return [complex(*pair) * cmath.exp(1j * position * 10_000 ** (-2 * i / size)) for i, pair in enumerate(pairs)]

    gathered = torch.zeros_like(values)
    for head in range(0, queries.shape[1], size):
        here = slice(head, head + size)
        for t in range(len(x)):
            window = range(max(0, t - window_size), t + 1)
            q = turned(queries[t, here], t)
            scores = [
                sum((a * b.conjugate()).real for a, b in zip(q, turned(keys[s, here], s), strict=True)) for s in window
            ]
            weights = [math.exp(score / math.sqrt(size)) for score in scores]
            for s, weight in zip(window, weights, strict=True):
                gathered[t, here] += weight / sum(weights) * values[s, here]
    return attention.out_proj(gathered)


@torch.no_grad()
@pytest.mark.parametrize("size", [2, 4, 6])  # of 8 numbers: whole heads, and heads with numbers to spare
@pytest.mark.parametrize("window_size", [1, 3, 20])
def test_attention_is_the_formula(size, window_size):
    attention = Attention(8, size, window_size).double()
    nn.init.normal_(attention.qkv_proj.weight)  # far from even weights
    x = torch.randn(1, 9, 8, dtype=torch.float64)
    expected, past = attention_by_formula(attention, x[0]), None
    for t in range(9):  # each in a piece of its own: position 0 there
        rotation = rope_angles(0 if past is None else -past.shape[-2], 1, size, x)
        gathered, past = attention(x[:, t : t + 1], past, rotation, None)
        same(gathered[0, 0], expected[t])
    if window_size >= 9:
        same(attention(x, None, rope_angles(0, 9, size, x), None)[0][0], expected)


@torch.no_grad()
@pytest.mark.parametrize("t", [8, 30])
def test_at_the_start_each_head_looks_at_a_distance_of_its_own(t):
    attention = Attention(64, 16, 32)
    queries, keys, _ = attention.qkv_proj.bias.view(3, 4, 1, 16)
    now, past = rope_angles(t, t + 1, 16, keys), rope_angles(0, t + 1, 16, keys)
    weights = (apply_rope(queries, now) @ apply_rope(keys.expand(-1, t + 1, -1), past).mT / 4).softmax(
        dim=-1
    )  # (4, 1, t + 1)
    assert weights.argmax(dim=-1).flatten().tolist() == [t - 1, t - 2, t - 3, t - 4]
    assert (weights.amax(dim=-1) > 0.4).all()


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 3, M, M + 1, 2 * M, 5 * M])
def test_a_text_far_longer_than_the_window_reads_in_pieces_as_at_once(length):
    model, chars = small(), torch.randint(V, (B, 5 * M))
    whole, state_of_whole = model(chars)
    pieces, state = in_pieces(model, chars, length)
    same(pieces, whole)
    same(state, state_of_whole)
    assert state.shape == (L, 2, B, 2, M, 4)


@torch.no_grad()
def test_the_causal_path_and_the_masked_path_agree():
    model, chars = small(window_size=20), torch.randint(V, (B, 20))
    same(in_pieces(model, chars, 20)[0][:, 1:], model(chars[:, 1:], model(chars[:, :1])[1])[0])


@torch.no_grad()
def test_the_window_limits_what_counts_and_uses_all_of_it():
    model, chars = small(), torch.randint(V, (B, 5 * M))
    nn.init.normal_(model.embed.weight, std=3)
    reach = L * M
    for distance, counts in ((reach + 1, False), (reach, True), (1, True), (0, True)):
        other = chars.clone()
        other[:, -1 - distance] = (chars[:, -1 - distance] + 1) % V
        change = (model(other)[0] - model(chars)[0])[:, -1].abs().amax(dim=1)
        assert ((change > 0) == counts).all(), distance


@torch.no_grad()
def test_a_text_in_float32_does_not_drift_over_a_long_past():
    model, chars = small().float(), torch.randint(V, (1, 600))
    long_past, fresh = model(chars)[0][:, -1], model(chars[:, -L * M - 1 :])[0][:, -1]
    same(long_past, fresh)


def test_gradients_flow_through_the_memory_within_a_call_and_reach_every_parameter():
    model, chars = small(dropout=0.3).train(), torch.randint(V, (B, 3 * M))
    logits, _ = model(chars)
    logits[:, -1].square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []
    unread = sorted(set(range(V)) - set(chars[:, -L * M - 1 :].flatten().tolist()))
    assert not model.embed.weight.grad[unread].any()
    assert (model.embed.weight.grad[chars[0, -L * M - 1]] != 0).any()


def test_dropout_works_in_training_alone():
    model, chars = small(dropout=0.5), torch.randint(V, (B, M))
    same(model(chars)[0], model(chars)[0], rtol=0, atol=0)
    assert not torch.equal(model.train()(chars)[0], model(chars)[0])


@torch.no_grad()
@pytest.mark.parametrize("from_bfloat16", [False, True])
def test_a_memory_of_another_precision_can_be_read(from_bfloat16):
    model, chars = small().float(), torch.randint(V, (B, 2 * M))
    expected, state = in_pieces(model, chars, M)[0], None
    for i, piece in enumerate(chars.split(M, dim=1)):
        with torch.autocast("cpu", torch.bfloat16, enabled=(i == 0) == from_bfloat16):
            logits, state = model(piece, state)
    same(logits.float(), expected[:, M:], rtol=0, atol=0.05)


@torch.no_grad()
def test_in_bfloat16_the_memory_stays_in_bfloat16():
    model, chars = small().float(), torch.randint(V, (B, 2 * M))
    with torch.autocast("cpu", torch.bfloat16):
        logits, state = in_pieces(model, chars, 3)
    assert state.dtype == torch.bfloat16
    same(logits.float(), model(chars)[0], rtol=0, atol=0.05)


@pytest.mark.parametrize("n_embed", [1, 5, 33])
def test_any_width_has_heads(n_embed):
    assert small(n_embed=n_embed, head_size=32)(torch.randint(V, (B, M)))[0].shape == (B, M, V)


@torch.no_grad()
def test_sampling_with_the_state_draws_what_reading_the_whole_reach_anew_draws():
    model, prime = small(window_size=2), [1, 5, 3, 3, 7, 2]
    with_state = list(islice(generate(model, prime, seed=1), 30))
    assert with_state == list(islice(generate(model, prime, n_context=L * 2 + 1, seed=1), 30))


def test_an_odd_head_is_a_usage_error():
    with pytest.raises(UsageError, match="head_size is 5; it must be even"):
        small(head_size=5)

"""Two implementations of a formula give the same outputs, states and gradients in float64.

The hand-written layers call `charlm.cells`, as the numpy engines do: these tests also cover the sampler.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from charlm.models import build
from charlm.models.gru_scratch import GRULayers
from charlm.models.lstm_scratch import LSTMLayers
from charlm.models.rnn_scratch import RNNLayers

V, E, H = 11, 5, 7
PAIRS = {"rnn": (RNNLayers, nn.RNN), "gru": (GRULayers, nn.GRU), "lstm": (LSTMLayers, nn.LSTM)}
same = torch.testing.assert_close


def pair(kind, n_layers, **options):
    """Return the hand-written layers and PyTorch's, with the same weights."""
    ours, theirs = PAIRS[kind]
    scratch = ours(E, H, n_layers, **options).double()
    library = theirs(E, H, n_layers, batch_first=True, **options).double()
    library.load_state_dict(scratch.state_dict())
    return scratch, library


def read(layers, inputs, state):
    """Return features, state and all gradients of a loss that depends on every number of the first two."""
    leaves = [inputs.clone().requires_grad_()] + [s.clone().requires_grad_() for s in state]
    given = None if not state else leaves[1] if len(state) == 1 else tuple(leaves[1:])
    features, final = layers(leaves[0], given)
    finals = final if isinstance(final, tuple) else (final,)
    loss = sum((torch.linspace(1, 2, x.numel(), dtype=x.dtype).view_as(x) * x.sin()).sum() for x in (features, *finals))
    names = [name for name, _ in layers.named_parameters()]
    gradients = torch.autograd.grad(loss, [*leaves, *layers.parameters()])
    return features, finals, dict(zip([*range(len(leaves)), *names], gradients, strict=True))


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(("b", "t"), [(1, 1), (3, 1), (1, 6), (4, 5)])
@pytest.mark.parametrize("kind", PAIRS)
def test_hand_written_layers_equal_those_of_pytorch(kind, b, t, n_layers, with_state):
    scratch, library = pair(kind, n_layers)
    inputs = torch.randn(b, t, E, dtype=torch.float64)
    n_states = (2 if kind == "lstm" else 1) if with_state else 0
    state = [torch.randn(n_layers, b, H, dtype=torch.float64) for _ in range(n_states)]
    same(read(scratch, inputs, state), read(library, inputs, state))


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_hand_written_rnn_with_relu_is_that_of_pytorch(n_layers):
    scratch, library = pair("rnn", n_layers, nonlinearity="relu")
    inputs = torch.randn(4, 5, E, dtype=torch.float64)
    same(read(scratch, inputs, []), read(library, inputs, []))
    tanh, _ = pair("rnn", n_layers)
    tanh.load_state_dict(scratch.state_dict())
    assert not torch.allclose(tanh(inputs)[0], scratch(inputs)[0])


@pytest.mark.parametrize("kind", PAIRS)
def test_dropout_has_no_effect_in_evaluation_mode(kind):
    scratch, library = pair(kind, 2, dropout=0.5)
    inputs = torch.randn(2, 4, E, dtype=torch.float64)
    same(scratch.eval()(inputs), library.eval()(inputs))
    assert not torch.equal(scratch.train()(inputs)[0], scratch(inputs)[0])


@pytest.mark.parametrize("kind", PAIRS)
def test_initial_weights_have_the_range_that_pytorch_uses(kind):
    for layers in pair(kind, 2):
        flat = torch.cat([p.flatten() for p in layers.parameters()])
        assert flat.abs().max() <= H**-0.5
        assert abs(flat.std() * 3**0.5 - H**-0.5) < 0.05


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("order", [("{}", "{}-scratch"), ("{}-scratch", "{}")])
def test_a_state_dict_can_be_exchanged_with_pytorchs_layers(kind, order):
    first, second = (build(name.format(kind), V, n_embed=E, n_hidden=H, n_layers=2).double() for name in order)
    second.load_state_dict(first.state_dict())
    chars = torch.randint(V, (3, 8))
    logits, state = first(chars)
    same(second(chars), (logits, state))
    same(second(chars, state), first(chars, state))


def test_one_step_of_an_rnn_is_its_formula():
    scratch, library = pair("rnn", 1)
    for layer in (scratch, library):
        w = dict(layer.named_parameters())
        x, h = torch.randn(E, dtype=torch.float64), torch.randn(H, dtype=torch.float64)
        by_hand = torch.empty(H, dtype=torch.float64)
        for i in range(H):
            z = w["bias_ih_l0"][i] + w["bias_hh_l0"][i]
            z = z + sum(w["weight_ih_l0"][i, j] * x[j] for j in range(E))
            z = z + sum(w["weight_hh_l0"][i, j] * h[j] for j in range(H))
            by_hand[i] = torch.tanh(z)
        features, state = layer(x.view(1, 1, E), h.view(1, 1, H))
        same(features.flatten(), by_hand)
        same(state.flatten(), by_hand)


def logits_and_gradients(model, chars):
    logits, _ = model(chars, only_last=True)
    logits.sin().sum().backward()
    return logits, {name: p.grad for name, p in model.named_parameters()}


def test_char3_equals_the_loop_over_three_characters():
    char3, loop = (build(name, V, n_embed=E, n_hidden=H).double() for name in ("char3", "loop"))
    loop.load_state_dict(char3.state_dict())
    chars = torch.randint(V, (4, 3))
    same(logits_and_gradients(char3, chars), logits_and_gradients(loop, chars))


def loop_by_hand(w, embedded, hidden):
    for e in embedded:
        x = torch.relu(w["embed_to_hidden.weight"] @ e + w["embed_to_hidden.bias"])
        hidden = torch.tanh(w["hidden_to_hidden.weight"] @ (hidden + x) + w["hidden_to_hidden.bias"])
    return hidden


def concat_by_hand(w, embedded, hidden):
    for e in embedded:
        x = torch.relu(w["both_to_hidden.weight"] @ torch.cat([hidden, e]) + w["both_to_hidden.bias"])
        hidden = torch.tanh(w["hidden_to_hidden.weight"] @ x + w["hidden_to_hidden.bias"])
    return hidden


@torch.no_grad()
@pytest.mark.parametrize(("name", "by_hand"), [("loop", loop_by_hand), ("concat", concat_by_hand)])
def test_loop_and_concat_equal_their_formulas(name, by_hand):
    model = build(name, V, n_embed=E, n_hidden=H).double()
    w = model.state_dict()
    chars, hidden = torch.randint(V, (6,)), torch.randn(H, dtype=torch.float64)
    for start in (None, hidden):
        logits, state = model(chars.view(1, 6), None if start is None else start.view(1, H))
        last = by_hand(w, w["embed.weight"][chars], torch.zeros_like(hidden) if start is None else start)
        same(state[0], last)
        same(logits[0, -1], w["head.weight"] @ last + w["head.bias"])


def test_an_embedding_equals_a_one_hot_vector_times_a_matrix():
    embed = build("rnn", V, n_embed=E, n_hidden=H).double().embed
    matrix = embed.weight.detach().clone().requires_grad_()
    chars = torch.randint(V, (4, 6))
    looked_up, multiplied = embed(chars), F.one_hot(chars, V).double() @ matrix
    same(looked_up, multiplied)
    looked_up.sin().sum().backward()
    multiplied.sin().sum().backward()
    same(embed.weight.grad, matrix.grad)

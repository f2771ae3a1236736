"""AWD-LSTM and Mogrifier LSTM: equality with `nn.LSTM` without dropout, dropout masks, the paper's equations."""

import pytest
import torch
from torch import nn

from charlm.models import build
from charlm.models.awd_lstm import WeightDropLSTM
from charlm.models.layers.dropout import CharDropout, LockedDropout
from charlm.models.mogrifier import MogrifierLSTM

B, T, E, H, V = 3, 5, 4, 6, 9
same = torch.testing.assert_close


def as_nn_lstm(layers):
    """Return one `nn.LSTM` with the weights of a stack of single-layer `nn.LSTM`s."""
    library = nn.LSTM(E, H, len(layers.layers), batch_first=True).double()
    for i, layer in enumerate(layers.layers):
        for name, parameter in layer.named_parameters():
            getattr(library, name.replace("l0", f"l{i}")).data.copy_(parameter)
    return library


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_weight_drop_lstm_without_dropout_equals_nn_lstm(n_layers, with_state, training):
    ours = WeightDropLSTM(E, H, n_layers, dropout=0.0, weight_dropout=0.0).double().train(training)
    theirs = as_nn_lstm(ours).train(training)
    inputs = torch.randn(B, T, E, dtype=torch.float64)
    state = tuple(torch.randn(2, n_layers, B, H, dtype=torch.float64)) if with_state else None
    results, gradients = [], []
    for layers in (ours, theirs):
        x = inputs.clone().requires_grad_()
        output, (h, c) = layers(x, state)
        (output.sin().sum() + h.cos().sum() + c.sin().sum()).backward()
        results.append((output, h, c))
        named = [p.grad for _, p in layers.named_parameters()]
        gradients.append([x.grad, *named])
    same(results[0], results[1])
    same(gradients[0], gradients[1])


def test_weight_dropout_uses_one_scaled_mask_for_the_whole_sequence():
    layers = WeightDropLSTM(E, H, 1, dropout=0.0, weight_dropout=0.5).double().train()
    inputs = torch.randn(B, T, E, dtype=torch.float64)
    torch.manual_seed(5)
    output, _ = layers(inputs, None)
    torch.manual_seed(5)
    _, dropped, _, _ = layers.weights(0)
    whole = layers.layers[0].weight_hh_l0
    assert 0.3 < (dropped == 0).double().mean() < 0.7
    same(dropped[dropped != 0], 2 * whole[dropped != 0])
    library = as_nn_lstm(layers)
    library.weight_hh_l0.data.copy_(dropped)
    same(output, library(inputs)[0])


def test_weight_dropout_draws_a_new_mask_for_every_batch_and_none_in_evaluation():
    layers = WeightDropLSTM(E, H, 1, dropout=0.0, weight_dropout=0.5)
    inputs = torch.randn(B, T, E)
    assert not torch.equal(layers.train()(inputs, None)[0], layers(inputs, None)[0])
    same(layers.eval()(inputs, None)[0], layers(inputs, None)[0], rtol=0, atol=0)


def test_locked_dropout_uses_one_mask_for_all_steps_and_different_masks_for_rows():
    x = torch.ones(64, T, H)
    dropped = LockedDropout(0.25).train()(x)
    assert (dropped == dropped[:, :1]).all()
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert len(dropped[:, 0].unique(dim=0)) > 1
    assert torch.equal(LockedDropout(0.25).eval()(x), x)


def test_a_dropped_character_is_dropped_at_all_its_positions():
    chars = torch.randint(V, (B, 40))
    dropped = CharDropout(0.5).train()(torch.ones(B, 40, E), chars, V)
    by_char = [dropped[chars == char].unique().tolist() for char in chars.unique()]
    assert {len(values) for values in by_char} == {1}
    assert {values[0] for values in by_char} == {0.0, 2.0}


def by_hand(layer, gates, inputs, h, c):
    """Compute one Mogrifier LSTM layer by the paper's equations."""
    outputs = []
    for x in inputs.unbind(1):
        for i, gate in enumerate(gates, start=1):
            q = gate[1].weight @ gate[0].weight
            if i % 2 == 1:
                x = 2 * torch.sigmoid(h @ q.T + gate[1].bias) * x
            else:
                h = 2 * torch.sigmoid(x @ q.T + gate[1].bias) * h
        summed = x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
        i, f, g, o = summed.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, dim=1), h, c


@pytest.mark.parametrize("n_rounds", [1, 2, 5])
def test_mogrifier_lstm_equals_the_equations_of_the_paper(n_rounds):
    layers = MogrifierLSTM(E, H, 2, 0.0, 0.0, n_rounds, rank=3).double()
    x = torch.randn(B, T, E, dtype=torch.float64)
    h, c = torch.randn(2, 2, B, H, dtype=torch.float64)
    output, state = layers(x, (h, c))
    for i in range(2):
        x, h_i, c_i = by_hand(layers.layers[i], layers.gates[i], x, h[i], c[i])
        same((state[0][i], state[1][i]), (h_i, c_i))
    same(output, x)


def test_every_dropout_option_has_an_effect_in_training_only():
    chars = torch.randint(V, (B, T))
    options = ("dropout", "head_dropout", "weight_dropout", "input_dropout", "char_dropout")
    for option in options:
        off = dict.fromkeys(options, 0.0)
        model = build("awd-lstm", V, n_embed=E, n_hidden=H, **off | {option: 0.5}).train()
        assert any(not torch.equal(model(chars)[0], model(chars)[0]) for _ in range(5)), option
        assert torch.equal(model.eval()(chars)[0], model(chars)[0])

"""LSTM (Hochreiter & Schmidhuber 1997): gated cell with additive state.

    i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)          input gate
    f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)          forget gate
    g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)             candidate
    o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)          output gate
    c_t = f_t * c_{t-1} + i_t * g_t
    h_t = o_t * tanh(c_t)

W_ih stacks W_ii, W_if, W_ig and W_io, and W_hh stacks the four of the hidden state.

References: Hochreiter and Schmidhuber (1997), Neural Computation 9(8); the forget gate: Gers, Schmidhuber, Cummins
(2000), Neural Computation 12(10).

Shapes: H n_hidden.
"""

from __future__ import annotations

from typing import Any

from charlm.cells.ops import Array, affine, sigmoid, split


def lstm_cell(
    xp: Any, gates_in: Array, state: tuple[Array, Array], weight_hh: Array, bias_hh: Array
) -> tuple[Array, Array]:
    """One step of an LSTM (Hochreiter and Schmidhuber, 1997).

    Args:
        xp: numpy or torch.
        gates_in: W_ih x_t + b_ih, float, (..., 4 H).
        state: h_{t-1} and c_{t-1}, each float, (..., H).
        weight_hh: W_hh transposed, float, (H, 4 H).
        bias_hh: b_hh, float, (4 H,).

    Returns:
        h_t and c_t, each float, (..., H).
    """
    hidden, cell = state
    n_hidden = hidden.shape[-1]
    i_and_f, g_and_o = split(xp, gates_in + affine(xp, hidden, weight_hh, bias_hh), 2 * n_hidden)
    i, f = split(xp, sigmoid(xp, i_and_f), n_hidden)
    g, o = split(xp, g_and_o, n_hidden)
    cell = f * cell + i * xp.tanh(g)
    return sigmoid(xp, o) * xp.tanh(cell), cell

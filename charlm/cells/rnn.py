"""Elman RNN (Elman 1990): nonlinearity of a linear function of input and hidden state.

    h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu instead of tanh

References: Elman (1990), Finding structure in time, Cognitive Science 14(2); with relu: Le, Jaitly, Hinton (2015),
arXiv:1504.00941.

Shapes: H n_hidden.
"""

from __future__ import annotations

from typing import Any

from charlm.cells.ops import Array, affine, relu


def rnn_cell(
    xp: Any, gates_in: Array, hidden: Array, weight_hh: Array, bias_hh: Array, nonlinearity: str = "tanh"
) -> Array:
    """One step of an Elman RNN (Elman, 1990).

    Args:
        xp: numpy or torch.
        gates_in: W_ih x_t + b_ih, float, (..., H).
        hidden: h_{t-1}, float, (..., H).
        weight_hh: W_hh transposed, float, (H, H).
        bias_hh: b_hh, float, (H,).
        nonlinearity: "tanh" or "relu".

    Returns:
        h_t, float, (..., H).
    """
    preactivation = gates_in + affine(xp, hidden, weight_hh, bias_hh)
    return relu(xp, preactivation) if nonlinearity == "relu" else xp.tanh(preactivation)

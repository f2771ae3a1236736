"""For-loop RNN of the lesson with concatenation: embedding and hidden state have separate weights.

    x_t = relu(W_x [h_{t-1}; e_t] + b_x) = relu(W_hx h_{t-1} + (W_ex e_t + b_x))
    h_t = tanh(W_xh x_t + b_h)

Shapes: H n_hidden.
"""

from __future__ import annotations

from typing import Any

from charlm.cells.ops import Array, affine, relu


def concat_cell(xp: Any, gates_in: Array, hidden: Array, weight_hx: Array, weight_xh: Array, bias_h: Array) -> Array:
    """One step of the for-loop RNN with concatenation.

    Args:
        xp: numpy or torch.
        gates_in: W_ex e_t + b_x, float, (..., H).
        hidden: h_{t-1}, float, (..., H).
        weight_hx: W_hx transposed, float, (H, H).
        weight_xh: W_xh transposed, float, (H, H).
        bias_h: b_h, float, (H,).

    Returns:
        h_t, float, (..., H).
    """
    x = relu(xp, affine(xp, hidden, weight_hx, gates_in))
    return xp.tanh(affine(xp, x, weight_xh, bias_h))

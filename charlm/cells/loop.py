"""For-loop RNN of the lesson: input and hidden state are added, then one linear layer.

    h_t = tanh(W_hh (h_{t-1} + x_t) + b_hh)

Shapes: H n_hidden.
"""

from __future__ import annotations

from typing import Any

from charlm.cells.ops import Array, affine


def loop_cell(xp: Any, gates_in: Array, hidden: Array, weight_hh: Array, bias_hh: Array) -> Array:
    """One step of the for-loop RNN.

    Args:
        xp: numpy or torch.
        gates_in: x_t, float, (..., H).
        hidden: h_{t-1}, float, (..., H).
        weight_hh: W_hh transposed, float, (H, H).
        bias_hh: b_hh, float, (H,).

    Returns:
        h_t, float, (..., H).
    """
    return xp.tanh(affine(xp, hidden + gates_in, weight_hh, bias_hh))

"""GRU (Cho et al. 2014): reset and update gates.

    r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)          reset
    z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)          update
    n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))     new
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

W_ih stacks W_ir, W_iz and W_in, and W_hh stacks W_hr, W_hz and W_hn.

Reference: Cho et al. (2014), arXiv:1406.1078, with the reset gate after the product, as in cuDNN and PyTorch.

Shapes: H n_hidden.
"""

from __future__ import annotations

from typing import Any

from charlm.cells.ops import Array, affine, sigmoid, split


def gru_cell(xp: Any, gates_in: Array, hidden: Array, weight_hh: Array, bias_hh: Array) -> Array:
    """One step of a GRU (Cho et al., 2014, arXiv:1406.1078).

    Args:
        xp: numpy or torch.
        gates_in: W_ih x_t + b_ih, float, (..., 3 H).
        hidden: h_{t-1}, float, (..., H).
        weight_hh: W_hh transposed, float, (H, 3 H).
        bias_hh: b_hh, float, (3 H,).

    Returns:
        h_t, float, (..., H).
    """
    n_hidden = hidden.shape[-1]
    gates_x, new_x = split(xp, gates_in, 2 * n_hidden)
    gates_h, new_h = split(xp, affine(xp, hidden, weight_hh, bias_hh), 2 * n_hidden)
    reset, update = split(xp, sigmoid(xp, gates_x + gates_h), n_hidden)
    new = xp.tanh(new_x + reset * new_h)
    return new + update * (hidden - new)

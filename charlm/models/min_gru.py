"""minGRU (Feng et al. 2024): GRU whose gates depend on the input only, computed in parallel over time.

    z_t = sigmoid(W_z x_t + b_z)              update
    n_t = W_n x_t + b_n                       candidate
    h_t = (1 - z_t) * h_{t-1} + z_t * n_t

Reference: Feng et al. (2024), Were RNNs all we needed?, arXiv:2410.01201, section 3.1. Base class: min_rnn.py.

Shapes: B batch_size, T characters, H n_hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from charlm.models.min_rnn import MinMixer, MinRNN


class MinGRUMixer(MinMixer):
    """minGRU recurrence."""

    n_gates = 2

    def decay_and_input(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - z and z * n; see `MinMixer.decay_and_input`."""
        update, candidate = gates
        return torch.sigmoid(-update), torch.sigmoid(update) * candidate  # 1 - z as a subtraction would lose precision


class MinGRU(MinRNN):
    """Language model with blocks of minGRU."""

    default_learning_rate = 1e-2
    mixer = MinGRUMixer

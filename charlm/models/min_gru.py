"""minGRU: the gates do not look at the past, so that all are one matrix product.

    z_t = sigmoid(W_z x_t + b_z)              update
    n_t = W_n x_t + b_n                       new
    h_t = (1 - z_t) * h_{t-1} + z_t * n_t

Reference: Feng et al. (2024), Were RNNs all we needed?, arXiv:2410.01201, section 3.1. Around it: `min_rnn`.

Shapes: B batch_size, T characters, H n_hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from charlm.models.min_rnn import MinMixer, MinRNN


class MinGRUMixer(MinMixer):
    """minGRU between a convolution and a matrix."""

    n_gates = 2

    def decay_and_input(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - z and z * n; see `MinMixer.decay_and_input`."""
        update, new = gates
        return torch.sigmoid(-update), torch.sigmoid(update) * new  # 1 - z, by subtraction, would lose what is small


class MinGRU(MinRNN):
    """Predict each next character with blocks of minGRU."""

    default_learning_rate = 1e-2
    mixer = MinGRUMixer

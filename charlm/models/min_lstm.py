"""minLSTM: gates that do not look at the past and add up to one: a weighted mean.

    f_t = sigmoid(W_f x_t + b_f)              forget
    i_t = sigmoid(W_i x_t + b_i)              input
    n_t = W_n x_t + b_n                       new
    h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * n_t

Without an output gate there is no cell beside h.

Reference: Feng et al. (2024), Were RNNs all we needed?, arXiv:2410.01201, section 3.2. Around it: `min_rnn`.

Shapes: B batch_size, T characters, H n_hidden.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.models.min_rnn import MinMixer, MinRNN


class MinLSTMMixer(MinMixer):
    """minLSTM between a convolution and a matrix."""

    n_gates = 3

    def decay_and_input(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """Return f / (f + i) and i / (f + i) * n; see `MinMixer.decay_and_input`."""
        forget, enter, new = gates
        # f / (f + i) = sigmoid(ln f - ln i), which holds where both are too small to divide by their sum
        odds = F.logsigmoid(forget) - F.logsigmoid(enter)
        return torch.sigmoid(odds), torch.sigmoid(-odds) * new


class MinLSTM(MinRNN):
    """Predict each next character with blocks of minLSTM."""

    default_learning_rate = 1e-2
    mixer = MinLSTMMixer

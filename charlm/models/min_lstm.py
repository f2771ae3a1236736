"""minLSTM (Feng et al. 2024): LSTM whose gates depend on the input only and are normalised to sum to 1.

    f_t = sigmoid(W_f x_t + b_f)              forget
    i_t = sigmoid(W_i x_t + b_i)              input
    n_t = W_n x_t + b_n                       candidate
    h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * n_t

There is no output gate and therefore no cell state.

Reference: Feng et al. (2024), Were RNNs all we needed?, arXiv:2410.01201, section 3.2. Base class: min_rnn.py.

Shapes: B batch_size, T characters, H n_hidden.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.models.min_rnn import MinMixer, MinRNN


class MinLSTMMixer(MinMixer):
    """minLSTM recurrence."""

    n_gates = 3

    def decay_and_input(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """Return f / (f + i) and i / (f + i) * n; see `MinMixer.decay_and_input`."""
        forget, input_gate, candidate = gates
        # f / (f + i) = sigmoid(ln f - ln i); the quotient underflows to 0 / 0 when both gates are tiny
        log_ratio = F.logsigmoid(forget) - F.logsigmoid(input_gate)
        return torch.sigmoid(log_ratio), torch.sigmoid(-log_ratio) * candidate


class MinLSTM(MinRNN):
    """Language model with blocks of minLSTM."""

    default_learning_rate = 1e-2
    mixer = MinLSTMMixer

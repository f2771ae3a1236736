"""One time step of each recurrence, written once for numpy and torch. Read `rnn.py` first, then `gru.py`.

A cell is a pure function `state = cell(xp, gates_in, state, *weights)` with `xp` either module. The hand-written layers
of `models/` call it on tensors, the numpy engine of `generation/` on arrays. So the float64 test that `gru-scratch`
equals `nn.GRU` also covers the formula that the sampler computes. No module here imports numpy or torch.
"""

from charlm.cells.concat import concat_cell
from charlm.cells.gru import gru_cell
from charlm.cells.loop import loop_cell
from charlm.cells.lstm import lstm_cell
from charlm.cells.rnn import rnn_cell

__all__ = ["concat_cell", "gru_cell", "loop_cell", "lstm_cell", "rnn_cell"]

from .concat import concat_cell
from .gru import gru_cell
from .loop import loop_cell
from .lstm import lstm_cell
from .rnn import rnn_cell

__all__ = ["concat_cell", "gru_cell", "loop_cell", "lstm_cell", "rnn_cell"]

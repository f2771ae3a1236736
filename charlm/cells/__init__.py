"""One time step of each recurrence, written once for numpy and torch.

Read first: rnn.py, then gru.py. A cell is a pure function `state = cell(xp, gates_in, state, *weights)` with `xp`
either module. The hand-written layers of `models/` call it on tensors, the numpy engine of `generation/` on arrays. The
float64 test that `gru-scratch` equals `nn.GRU` therefore also covers the formula of the sampler. No module here imports
numpy or torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

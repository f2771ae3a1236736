"""Identity initialisation of recurrent weights (Le et al. 2015).

Reference: Le, Jaitly, Hinton (2015), A simple way to initialize recurrent networks of rectified linear units,
arXiv:1504.00941. The paper uses it with ReLU; here it is used with tanh, as in the lesson.
"""

from __future__ import annotations

import torch
from torch import nn

from charlm.errors import UsageError

INITS = ("uniform", "identity")


def check_init(init: str) -> None:
    """Raise UsageError unless `init` is one of `INITS`."""
    if init not in INITS:
        raise UsageError(f"init = {init!r} is not known; it is one of: {', '.join(INITS)}")


@torch.no_grad()
def identity_(module: nn.Module) -> None:
    """Set the hidden-to-hidden weights of a module to the identity and its biases to zero.

    Args:
        module: a linear layer from hidden to hidden, or layers with the parameter names of `nn.RNN` (`weight_hh_l0`).
    """
    for name, parameter in module.named_parameters():
        if name == "weight" or name.startswith("weight_hh"):
            nn.init.eye_(parameter)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)

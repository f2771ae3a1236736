"""Initialisation of hidden-to-hidden weights: identity (Le et al. 2015) or orthogonal (Saxe et al. 2013).

Under both matrices a hidden state keeps its length from step to step, so neither it nor its gradient vanishes or
explodes at the start of training.

References: Le, Jaitly, Hinton (2015), A simple way to initialize recurrent networks of rectified linear units,
arXiv:1504.00941 (the paper uses ReLU; the lesson keeps tanh); Saxe, McClelland, Ganguli (2013), Exact solutions to the
nonlinear dynamics of learning in deep linear neural networks, arXiv:1312.6120.
"""

from __future__ import annotations

import torch
from torch import nn

from charlm.errors import UsageError

INITS = {"uniform": None, "identity": nn.init.eye_, "orthogonal": nn.init.orthogonal_}


@torch.no_grad()
def init_recurrent(module: nn.Module, init: str) -> None:
    """Initialise hidden-to-hidden weights, and set the biases of the module to zero.

    Args:
        module: a linear layer from hidden to hidden, or layers with the parameter names of `nn.RNN` (`weight_hh_l0`).
        init: "identity", "orthogonal", or "uniform" to leave the module as PyTorch made it.

    Raises:
        UsageError: another value of `init`.
    """
    if init not in INITS:
        raise UsageError(f"init = {init!r} is not known; it is one of: {', '.join(INITS)}")
    fill = INITS[init]
    if fill is None:
        return
    for name, parameter in module.named_parameters():
        if name == "weight" or name.startswith("weight_hh"):
            fill(parameter)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)

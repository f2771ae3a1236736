"""Steppers of a model in memory: its own forward pass, or its numpy engine where it has one.

Shapes: B texts, T characters, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.generation.numpy_engine import ENGINES, make_engine
from charlm.generation.sampler import Stepper
from charlm.models import CharModel
from charlm.models.base import State
from charlm.models.counting import HasCacheModel
from charlm.options.ranges import MAX_CONTEXT
from charlm.storage.weights import weights_of


class TorchStepper(Stepper):
    """A model as a `Stepper`, by its own forward pass.

    Args:
        model: it is switched to evaluation mode.
        n_texts: B; None for one text.
    """

    def __init__(self, model: CharModel, n_texts: int | None = None) -> None:
        self.model, self.n_texts = model.eval(), n_texts
        self.state: State = None

    def reset(self) -> None:
        """Return to the initial state."""
        self.state = None

    def fresh(self) -> TorchStepper:
        """Return another stepper of the same model, in its initial state."""
        return TorchStepper(self.model, self.n_texts)

    def freeze_cache(self) -> None:
        """Count no further characters in cache models until `reset`."""
        if isinstance(self.model, HasCacheModel):
            self.state = self.model.freeze_cache(self.state, self.n_texts or 1)

    @torch.inference_mode()
    def read(self, chars: Sequence[Any]) -> NDArray[Any]:
        """Read characters and return the logits of the next one, float32, (V,) or (B, V); see `Stepper.read`."""
        for begin in range(0, len(chars), MAX_CONTEXT):  # to limit memory; a window is read in one forward pass
            part = chars[begin : begin + MAX_CONTEXT]
            rows = np.stack([np.broadcast_to(char, (self.n_texts or 1,)) for char in part], axis=1)  # (B, T)
            batch = torch.from_numpy(rows).to(self.model.device, torch.long)
            logits, self.state = self.model(batch, self.state, only_last=True)
        last: NDArray[Any] = logits[:, -1].float().cpu().numpy()  # (B, V)
        return last[0] if self.n_texts is None else last


def make_stepper(model: CharModel, n_context: int | None = None, n_texts: int | None = None) -> Stepper:
    """Return the numpy engine if the model has one, else the model's own forward pass.

    On a GPU, several texts are sampled by the forward pass in any case.

    Args:
        model: it is switched to evaluation mode. Later changes of its weights may not reach the stepper.
        n_context: characters in a window; None for a model that carries a state.
        n_texts: B; None for one text.
    """
    weights = weights_of(model)
    is_float32 = all(weight.dtype == torch.float32 or not weight.is_floating_point() for weight in weights.values())
    if model.name in ENGINES and is_float32 and (n_texts is None or model.device.type == "cpu"):
        arrays = {name: weight.detach().cpu().numpy() for name, weight in weights.items()}
        engine = make_engine(model.name, arrays, model.config, model.vocab_size, n_context, n_texts)
        if engine is not None:
            return engine
    return TorchStepper(model, n_texts)

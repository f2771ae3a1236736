"""Sampling from a model in memory: a generator of characters.

Shapes: B texts, T characters, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.generation.sampler import SamplingParams, Stepper, generate_ids, uniform_stream
from charlm.generation.steps import STEPS, prepare
from charlm.models import CharModel
from charlm.models.base import State
from charlm.storage.weights import weights_of


class TorchStepper:
    """A model as a reader, by the model's own forward pass.

    Args:
        model: its mode is set to evaluation.
        n_texts: B, how many texts are written at once; None for one.
    """

    def __init__(self, model: CharModel, n_texts: int | None = None) -> None:
        self.model, self.n_texts = model.eval(), n_texts
        self.state: State = None

    def reset(self) -> None:
        """Forget what was read."""
        self.state = None

    @torch.inference_mode()
    def read(self, chars: Sequence[int | NDArray[Any]]) -> NDArray[Any]:
        """Return the logits after some characters, float, (V,) or (B, V); see `draw.Stepper`."""
        rows = np.stack([np.broadcast_to(char, (self.n_texts or 1,)) for char in chars], axis=1)  # (B, T)
        batch = torch.from_numpy(rows).to(self.model.device, torch.long)
        logits, self.state = self.model(batch, self.state, only_last=True)
        last = logits[:, -1].float().cpu().numpy()  # (B, V)
        return last[0] if self.n_texts is None else last  # type: ignore[no-any-return]


def make_stepper(model: CharModel, n_context: int | None = None, n_texts: int | None = None) -> Stepper:
    """Return what reads quickest: steps in numpy where there are such; of many texts on a GPU the model itself.

    Args:
        model: its mode is set to evaluation; what it learns later on may not reach the reader.
        n_context: characters in a window; None for a model that carries its state.
        n_texts: how many texts are written at once; None for one.
    """
    name = model.name
    weights = weights_of(model.eval())
    is_float32 = all(w.dtype == torch.float32 or not w.is_floating_point() for w in weights.values())
    if name in STEPS and (model.device.type == "cpu" or n_texts is None) and is_float32:
        steps = prepare(
            name,
            {key: weight.detach().cpu().numpy() for key, weight in weights.items()},
            model.config | {"vocab_size": model.vocab_size},
            n_context,
        )
        if steps is not None:
            return steps
    return TorchStepper(model, n_texts)


def generate(
    model: CharModel | Stepper,
    prime: Sequence[int],
    n_context: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield one character index after another, without end.

    Args:
        model: its mode is set to evaluation; or a reader that has read nothing.
        prime: what was written so far, at least one character, shorter than a window only if the caller wants so.
        n_context: characters in a window; None for a model that carries its state.
        temperature: see `draw.SamplingParams`.
        top_k: see `draw.SamplingParams`.
        top_p: see `draw.SamplingParams`.
        min_p: see `draw.SamplingParams`.
        seed: of the draw; None takes a fresh one.

    Raises:
        UsageError: an option out of its range.
    """
    choice, uniform = SamplingParams(temperature, top_k, top_p, min_p), uniform_stream(seed)
    reader = make_stepper(model, n_context) if isinstance(model, CharModel) else model
    return generate_ids(reader, prime, uniform, choice, n_context)

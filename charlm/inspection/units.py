"""Units: the activations of a model's last hidden layer, and the properties of the text that they detect.

The area under the ROC curve (AUC) of a unit is the probability that its activation is higher at a random character with
the property than at one without. 0.5 is chance; below 0.5, low activations mean the property. The best unit is chosen
on the first half of the text, and its AUC is measured on the second half. The control is the AUC with the property
shuffled.

References: Karpathy, Johnson, Fei-Fei (2016), Visualizing and understanding recurrent networks, arXiv:1506.02078;
Hanley and McNeil (1982), The meaning and use of the area under a ROC curve, Radiology 143(1).

Shapes: N characters, H units, T characters of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.errors import UsageError
from charlm.evaluation.protocol import WARMUP_CHARS, TextRange, eval_mode
from charlm.generation.language_model import LanguageModel
from charlm.inspection.properties import Truth

CHUNK_CHARS = 1024
MIN_CHARS = 20  # with a property and without it, in each half of the text, for an area to be computed
Numbers = NDArray[Any]


@dataclass(frozen=True)
class UnitScore:
    """The unit that detects a property best.

    Attributes:
        name: of the property.
        unit: index of the unit.
        auc: area under the ROC curve on the second half of the text, above 0.5 if the unit detects the property.
        sign: 1 if high activations mean the property, -1 if low ones do.
        control: area of the same unit on the same text with the property shuffled.
        share: share of the characters with the property.
    """

    name: str
    unit: int
    auc: float
    sign: int
    control: float
    share: float


def activations(model: LanguageModel, text: TextRange) -> Numbers:
    """Return the activation of each unit of the last hidden layer after each character of a range, float32, (N, H).

    Args:
        model: with a hidden layer.
        text: on the model's device.

    Raises:
        UsageError: the model has no hidden layer.
    """
    network, n_context = model.model, model.metadata.n_context
    if not network.uses_gradients:
        raise UsageError(f"{model.metadata.model} counts n-grams; it has no hidden units")
    n_before = (n_context - 1) if n_context else WARMUP_CHARS
    first = max(0, text.first - n_before)
    chars = text.ids[first : text.stop].long()
    chunks, state = [], None
    with eval_mode(network):
        if n_context:
            padded = torch.nn.functional.pad(chars, (n_before - (text.first - first), 0), value=text.bos_id)
            for windows in torch.split(padded.unfold(0, n_context, 1), CHUNK_CHARS):
                features, _ = network.features(windows)
                chunks.append(features[:, -1].float().cpu())
        else:
            for chunk in torch.split(chars, CHUNK_CHARS):
                features, state = network.features(chunk.unsqueeze(0), state)
                chunks.append(features[0].float().cpu())
    n_units = min(chunks[0].shape[-1], network.config.get("n_hidden", chunks[0].shape[-1]))
    result: Numbers = torch.cat(chunks)[-text.n_chars :, :n_units].numpy()  # without the features of n-gram experts
    return result


def roc_aucs(values: Numbers, truth: Truth) -> Numbers:
    """Return the area under the ROC curve of each unit, float64, (H,): (R_1 - n_1 (n_1 + 1) / 2) / (n_0 n_1).

    Args:
        values: activations, (N, H).
        truth: the property, (N,), true for n_1 characters, false for n_0; R_1 is the sum of the ranks of the former.
    """
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    ranks = np.empty(values.shape, np.float64)
    order = np.argsort(values, axis=0, kind="stable")
    np.put_along_axis(ranks, order, np.arange(1, len(values) + 1, dtype=np.float64)[:, None], axis=0)
    ranked = np.take_along_axis(values, order, axis=0)
    for unit in np.flatnonzero((ranked[1:] == ranked[:-1]).any(axis=0)):  # tied values share their mean rank
        _, inverse, counts = np.unique(values[:, unit], return_inverse=True, return_counts=True)
        ranks[:, unit] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    result: Numbers = (ranks[truth].sum(axis=0) - n_true * (n_true + 1) / 2) / (n_true * n_false)
    return result


def best_units(values: Numbers, properties: Mapping[str, Truth], seed: int = 0) -> list[UnitScore]:
    """Return, for each property, the unit that detects it best, the highest AUC first.

    Properties that hardly occur, or hardly ever do not, are left out.

    Args:
        values: activations, (N, H).
        properties: names to truth values, (N,).
        seed: of the shuffling.
    """
    half = len(values) // 2
    found = []
    for name, truth in properties.items():
        parts = truth[:half], truth[half:]
        if any(min(part.sum(), (~part).sum()) < MIN_CHARS for part in parts):
            continue
        first = roc_aucs(values[:half], parts[0])
        unit = int(np.abs(first - 0.5).argmax())
        sign = 1 if first[unit] >= 0.5 else -1
        signed = sign * values[half:, unit : unit + 1]
        shuffled = np.random.default_rng(seed).permutation(parts[1])
        auc, control = (float(roc_aucs(signed, part)[0]) for part in (parts[1], shuffled))
        found.append(UnitScore(name, unit, auc, sign, control, float(truth.mean())))
    return sorted(found, key=lambda score: -score.auc)

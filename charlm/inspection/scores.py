"""Score: bits, rank and the likeliest characters at each position of a text, for one model or several.

The models read as in `evaluation.protocol`, so the bits of a part add up to those of `charlm eval`. Blocks of the text
are scored one after the other, in constant memory.

Shapes: N characters of a block, M models, K likeliest characters, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from charlm.data.vocab import Codepoints, to_text
from charlm.errors import CharlmError
from charlm.evaluation.protocol import TextRange, eval_mode, scored_logits
from charlm.generation.language_model import LanguageModel
from charlm.generation.sampler import NOT_FINITE

BLOCK_CHARS = 4096
N_LIKELY = 5


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of consecutive characters under one model.

    Attributes:
        bits: -log2 p(character), float64, (N,).
        ranks: 1 for a character that got the highest probability, int64, (N,).
        likely_ids: the likeliest characters except the unknown, the first one first, int64, (N, K).
        likely_probs: their probabilities, float64, (N, K).
        n_bytes: lengths of the characters in UTF-8, see `Vocab.utf8_lengths`, int64, (N,).
    """

    bits: NDArray[np.float64]
    ranks: NDArray[np.int64]
    likely_ids: NDArray[np.int64]
    likely_probs: NDArray[np.float64]
    n_bytes: NDArray[np.int64]

    def part(self, start: int, stop: int) -> Scores:
        """Return the scores of the characters from `start` to `stop`."""
        return Scores(*(getattr(self, key.name)[start:stop] for key in fields(self)))


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive characters of a text with their scores.

    Attributes:
        offset: position of the first one in the text that is scored.
        codepoints: code points or byte values, (N,).
        scores: one per model.
    """

    offset: int
    codepoints: Codepoints
    scores: list[Scores]

    def part(self, start: int, stop: int) -> Block:
        """Return the characters from `start` to `stop`."""
        scores = [each.part(start, stop) for each in self.scores]
        return Block(self.offset + start, self.codepoints[start:stop], scores)

    def characters(self, symbols: Sequence[str]) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
        """Yield offset, character and each model's bits, rank and likeliest characters.

        Args:
            symbols: the vocabulary of each model.
        """
        columns = [
            zip(*(array.tolist() for array in (each.bits, each.ranks, each.likely_ids, each.likely_probs)), strict=True)
            for each in self.scores
        ]
        for i, (char, *scores) in enumerate(zip(to_text(self.codepoints), *columns, strict=True)):
            rows = []
            for known, (bits, rank, ids, probs) in zip(symbols, scores, strict=True):
                likely = [[known[k - 1], round(prob, 6)] for k, prob in zip(ids, probs, strict=True)]
                rows.append({"bits": bits, "rank": rank, "likely": likely})
            yield self.offset + i, char, rows


def score_blocks(
    models: Sequence[LanguageModel],
    texts: Sequence[TextRange],
    codepoints: Iterable[Codepoints],
    n_likely: int = N_LIKELY,
    block_chars: int = BLOCK_CHARS,
) -> Iterator[Block]:
    """Score a text with several models, block by block.

    Args:
        models: each with its own vocabulary.
        texts: the text in the indices of each model, on its device.
        codepoints: the same characters.
        n_likely: K.
        block_chars: N; the last block is shorter.

    Raises:
        CharlmError: the logits of a model are not finite.
    """
    streams = [_rechunk(_scores(*pair, n_likely), block_chars) for pair in zip(models, texts, strict=True)]
    offset = 0
    for (chars,), *columns in zip(_rechunk(((block,) for block in codepoints), block_chars), *streams, strict=True):
        yield Block(offset, chars, [Scores(*arrays) for arrays in columns])
        offset += len(chars)


def _scores(model: LanguageModel, text: TextRange, n_likely: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield the arrays of `Scores`, chunk by chunk as the model reads."""
    chunks = scored_logits(model.model, text, model.metadata.n_context)
    while True:
        with eval_mode(model.model):  # not around `yield`: the caller's mode would change
            try:
                logits, targets = next(chunks)
            except StopIteration:
                return
            arrays = _chunk_scores(logits.float(), targets, n_likely)
        yield *arrays, model.vocab.utf8_lengths[targets.cpu().numpy()]


def _chunk_scores(logits: Tensor, targets: Tensor, n_likely: int) -> tuple[NDArray[Any], ...]:
    """Return the arrays of `Scores` except `n_bytes` from logits, (N, V), and targets, (N,)."""
    if not logits.amax(dim=1).isfinite().all():
        raise CharlmError(NOT_FINITE)
    nats = F.cross_entropy(logits, targets, reduction="none").double()
    own = logits.gather(1, targets.unsqueeze(1))
    tied_before = (logits == own) & (torch.arange(logits.shape[1], device=logits.device) < targets.unsqueeze(1))
    ranks = 1 + ((logits > own) | tied_before).sum(dim=1)
    log_probs, likely = logits.log_softmax(dim=1)[:, 1:].topk(min(n_likely, logits.shape[1] - 1))
    return tuple(t.cpu().numpy() for t in (nats / math.log(2), ranks, likely + 1, log_probs.double().exp()))


def _rechunk(chunks: Iterable[tuple[NDArray[Any], ...]], size: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Cut consecutive rows of arrays into blocks of `size` rows; the last one may be shorter."""
    pending: list[tuple[NDArray[Any], ...]] = []
    n = 0
    for chunk in chunks:
        pending.append(chunk)
        n += len(chunk[0])
        if n < size:
            continue
        joined = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
        for start in range(0, n - size + 1, size):
            yield tuple(array[start : start + size] for array in joined)
        rest = n % size
        pending, n = [tuple(array[len(array) - rest :] for array in joined)], rest
    if n:
        yield tuple(np.concatenate(parts) for parts in zip(*pending, strict=True))

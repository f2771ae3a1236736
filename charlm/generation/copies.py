"""Copies: how much of a sampled text stands in the training text, and the longest passage that does.

A k-gram of the text, k = 20, is copied if it occurs in the training text. A passage of k characters or more that
occurs there consists of copied k-grams, so it lies within a run of positions whose k-grams are those of the text. One
pass over the training text, block by block, finds these runs by a hash of each k-gram; characters are compared before
anything is counted, so the result is exact. Memory: some 100 bytes for each character of a block.

Shapes: N characters, k characters of a gram.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.data.corpus import Corpus

N_GRAM = 20  # k
BLOCK_CHARS = 1 << 19
_FACTOR = np.uint64(6_364_136_223_846_793_005)  # of Knuth's MMIX


@dataclass(frozen=True)
class Copies:
    """Passages that texts share with the training text.

    Attributes:
        n_grams: number of k-grams of the texts.
        n_copied: number of those that occur in the training text.
        longest: length of the longest passage of `N_GRAM` characters or more that occurs there; 0 if there is none.
        text: index of the text that contains it.
        start: its position in that text.
        place: its first position in the training text.
    """

    n_grams: int
    n_copied: int
    longest: int = 0
    text: int = 0
    start: int = 0
    place: int = 0


def find_copies(
    texts: Sequence[NDArray[Any]], training: NDArray[Any], n: int = N_GRAM, block_chars: int = BLOCK_CHARS
) -> Copies:
    """Find what texts copy from the training text.

    Args:
        texts: as indices, each (N,).
        training: the training text as indices, (N,); it may be memory-mapped.
        n: k.
        block_chars: characters of the training text that are compared at once.
    """
    strings = [_as_string(text) for text in texts]
    grams = [string[i : i + n] for string in strings for i in range(len(string) - n + 1)]
    wanted, found = set(grams), set()
    hashes = np.unique(np.concatenate([_hashes(text, n) for text in texts] or [np.empty(0, np.uint64)]))
    best = Copies(len(grams), 0)
    overlap = max([n, *map(len, strings)]) - 1  # a common passage lies within one window as a whole
    for begin in range(0, len(training) if len(hashes) else 0, block_chars):
        first = max(0, begin - overlap)
        window = np.asarray(training[first : begin + block_chars])
        for start, stop in _runs(np.isin(_hashes(window, n), hashes)):
            run = _as_string(window[start : stop + n - 1])
            found.update(wanted.intersection(run[i : i + n] for i in range(stop - start)))
            at = 0
            while at + max(best.longest + 1, n) <= len(run):
                passage = run[at : at + max(best.longest + 1, n)]
                text = next((i for i, string in enumerate(strings) if passage in string), None)
                if text is None:
                    at += 1
                else:
                    place = first + start + at
                    best = Copies(best.n_grams, 0, len(passage), text, strings[text].index(passage), place)
    return Copies(best.n_grams, sum(gram in found for gram in grams), best.longest, best.text, best.start, best.place)


def report_copies(texts: Sequence[str], corpus: Corpus) -> str:
    """Return in one line the share of copied k-grams, and the longest copied passage with its place.

    Args:
        texts: sampled.
        corpus: the text that the model was trained on; its training part is searched.
    """
    ids, training = [corpus.vocab.encode(text) for text in texts], corpus.part("train")
    copies = find_copies(ids, training)
    if not copies.n_grams:
        return f"copies: the sample is shorter than {N_GRAM} characters"
    share = f"copies: {copies.n_copied / copies.n_grams:.1%} of the sample's {N_GRAM}-grams are in the training text"
    if not copies.longest:
        return share
    passage = corpus.vocab.decode(ids[copies.text][copies.start : copies.start + copies.longest].tolist())
    line = 1 + int(np.count_nonzero(training[: copies.place] == corpus.vocab.bos_id)) if corpus.vocab.bos_id else 1
    where = f"line {line:,}, character {copies.place:,}"
    return f"{share}; longest passage: {copies.longest} characters, {passage!r}, at {where} of {corpus.name}"


def _as_string(ids: NDArray[Any]) -> str:
    return np.asarray(ids).astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _hashes(ids: NDArray[Any], n: int) -> NDArray[np.uint64]:
    """Return a hash of the `n` symbols from each position on, (N - n + 1,)."""
    symbols, size = np.asarray(ids).astype(np.uint64) + np.uint64(1), max(0, len(ids) - n + 1)
    found = np.zeros(size, np.uint64)
    for k in range(n if size else 0):
        found *= _FACTOR
        found += symbols[k : k + size]
    return found


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the first and one-past-last position of each run of True."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=np.int8(0), append=np.int8(0)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)

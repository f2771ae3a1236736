"""What predicts a text without any model of ours: all symbols alike, their frequencies, and xz."""

from __future__ import annotations

import lzma
import math
from typing import Any

import numpy as np

from charlm.data.corpus import Corpus


def baselines(corpus: Corpus) -> list[dict[str, Any]]:
    """Return what needs no training: all symbols alike, their frequencies, and xz.

    xz compresses the text up to the part's end, less what it makes of the text before the part.
    """
    n_symbols = len(corpus.vocab)
    counts = np.bincount(corpus.part("train"), minlength=n_symbols) + 1  # add one, for what was never seen
    frequencies = counts / counts.sum()
    rows: list[dict[str, Any]] = [{"entry": name} for name in ("uniform", "unigram", "xz")]
    for part in ("valid", "test"):
        first, stop = corpus.bounds[part]
        if first == stop:
            continue
        key = f"{part}_nats"
        rows[0][key] = math.log(n_symbols)
        rows[1][key] = float(-np.log(frequencies[corpus.part(part)]).mean())
        n_bytes = _xz_bytes(corpus, stop) - _xz_bytes(corpus, first)
        rows[2][key] = n_bytes * 8 * math.log(2) / (stop - first)
    return rows


def _xz_bytes(corpus: Corpus, stop: int) -> int:
    """Return the bytes to which the text's beginning is compressed, as the models see it."""
    ids = corpus.ids[:stop].astype("<u4" if len(corpus.vocab) > 2**8 else "u1")
    return len(lzma.compress(ids.tobytes(), preset=9 | lzma.PRESET_EXTREME))

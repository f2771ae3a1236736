"""Baselines without training: uniform distribution, character frequencies, and compressors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from charlm.data.corpus import Corpus
from charlm.data.vocab import to_text
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.compressors import xz
from charlm.training.trainer import FINAL_CHARS

UNKNOWN = 0x1A  # the control character "substitute"


def baselines(
    corpus: Corpus,
    max_chars: int = FINAL_CHARS,
    compressors: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({"xz": xz}),
) -> list[dict[str, Any]]:
    """Return one row a baseline, with nats per character of the validation and the test part.

    uniform: ln V. unigram: add-one frequencies of the training part. A compressor: compressed size of the text up to
    the end of the part, minus that of the text up to its beginning.

    Args:
        corpus: the text.
        compressors: see `compressors.installed`.
        max_chars: characters of each part that are read at most, as in the final evaluation of a training.
    """
    n_symbols = len(corpus.vocab)
    counts = np.bincount(corpus.part("train"), minlength=n_symbols) + 1
    frequencies = counts / counts.sum()
    rows: list[dict[str, Any]] = [{"entry": name} for name in ("uniform", "unigram", *compressors)]
    uniform, unigram, *others = rows
    for part in ("valid", "test"):
        first, stop = corpus.bounds[part]
        if first == stop:
            continue
        stop = min(stop, first + max_chars)
        key = f"{part}_nats"
        uniform[key] = math.log(n_symbols)
        unigram[key] = float(-np.log(frequencies[corpus.ids[first:stop]]).mean())
        for row, compress in zip(others, compressors.values(), strict=True):
            n_bytes = len(compress(_bytes(corpus, stop))) - len(compress(_bytes(corpus, first)))
            row[key] = n_bytes * 8 * math.log(2) / (stop - first)
        per_char = corpus.vocab.bytes_per_symbol(corpus.ids[first:stop])
        for row in rows:
            row[f"{part}_bits_per_byte"] = nats_to_bits(row[key]) / per_char
    return rows


def _bytes(corpus: Corpus, stop: int) -> bytes:
    """Return the text's first `stop` symbols in UTF-8; one outside the vocabulary is one byte, as in bits per byte."""
    symbols = np.concatenate([[UNKNOWN], corpus.vocab.codepoints])[corpus.ids[:stop]]
    return bytes(symbols.tolist()) if corpus.vocab.is_bytes else to_text(symbols).encode("utf-8", "surrogatepass")

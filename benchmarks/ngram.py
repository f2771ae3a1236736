"""Time and memory of counting a large text.

    python benchmarks/ngram.py --mb 20
    python benchmarks/ngram.py --mb 100
    python benchmarks/ngram.py --mb 100 --words

The text is sampled from a Markov chain of order 3 of `python-docs`, the reference pages of Python's `help()`, or of
another corpus. Peak memory is the peak resident size of this process, including torch and the text.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch
from common import require_text

from charlm.data import named_texts
from charlm.data.corpus import make_corpus
from charlm.models.ngram import NGram
from charlm.models.word_ngram import WordNGram
from charlm.ngrams.char_ngram import SMOOTHINGS

ORDER = 3  # characters of context of the Markov chain
N_LANES = 20_000  # sampled in parallel


def peak_mb() -> float:
    """Return the peak resident size of this process, MB."""
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes on macOS, KB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def markov_text(ids: np.ndarray, n_chars: int, seed: int = 0) -> np.ndarray:
    """Sample a text of about `n_chars` characters from a Markov chain of order `ORDER`."""
    rng = np.random.default_rng(seed)
    ids = np.concatenate([ids, ids[:ORDER]])  # circular: every context has a successor
    contexts = np.lib.stride_tricks.sliding_window_view(ids, ORDER)[:-1]
    _, context = np.unique(contexts, axis=0, return_inverse=True)
    positions = np.argsort(context, kind="stable")  # grouped by context
    counts = np.bincount(context)
    first = np.cumsum(counts) - counts
    here = rng.integers(len(context), size=N_LANES)
    text = np.empty((n_chars // N_LANES, N_LANES), dtype=ids.dtype)
    for row in text:
        row[:] = ids[here]
        there = context[(here + 1) % len(context)]
        here = positions[first[there] + (rng.random(N_LANES) * counts[there]).astype(np.int64)]
    return np.ascontiguousarray(text.T).ravel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=20, help="million characters")
    parser.add_argument("--order", type=int, default=8)
    parser.add_argument("--smoothing", choices=SMOOTHINGS, default="kneser-ney")
    parser.add_argument("--words", action="store_true", help="also count words and line lengths")
    parser.add_argument("--corpus", default="python-docs")
    given = parser.parse_args()

    require_text(given.corpus)
    corpus = make_corpus(named_texts.open_texts([given.corpus]), given.corpus, "all")
    ids = torch.from_numpy(markov_text(corpus.ids, given.mb * 1_000_000))
    print(f"{len(ids):,} characters like {given.corpus}, {len(corpus.vocab)} symbols; peak {peak_mb():.0f} MB")
    n_symbols = len(corpus.vocab)
    model = WordNGram(n_symbols, given.order) if given.words else NGram(n_symbols, given.order, given.smoothing)
    began, began_cpu = time.perf_counter(), time.process_time()
    model.fit_counts(ids, torch.as_tensor(corpus.vocab.char_classes))
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    what = "characters and words" if given.words else f"characters ({given.smoothing})"
    print(f"counting {what}, order {given.order}: {took:.0f} s, of which {took_cpu:.0f} s on a core")
    sizes = [f"{len(level.keys):,}" for level in model.counts.levels]
    print(f"{model.n_parameters:,} counts ({', '.join(sizes)}); peak {peak_mb():.0f} MB")

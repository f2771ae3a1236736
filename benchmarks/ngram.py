"""Seconds and memory of counting a large text.

    python benchmarks/ngram.py --mb 20
    python benchmarks/ngram.py --mb 100
    python benchmarks/ngram.py --mb 100 --words

The text is drawn from a Markov chain: each character follows as one does after the same three in `python-docs`, the
reference prose of Python's `help()`, or in another corpus. Peak memory is the largest resident size of this process,
with torch and the text in it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch

from charlm.data import named_texts
from charlm.data.corpus import make_corpus
from charlm.models.ngram import SMOOTHINGS, NGram
from charlm.models.word_ngram import WordNGram

N_BEFORE = 3  # characters that decide what may follow
N_LANES = 20_000  # drawn side by side


def peak_mb() -> float:
    """Return the largest resident size of this process so far, MB."""
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes on macOS, KB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def markov_text(ids: np.ndarray, n_chars: int, seed: int = 0) -> np.ndarray:
    """Return a text of about `n_chars` that goes on at each character as another place with the same context does."""
    rng = np.random.default_rng(seed)
    ids = np.concatenate([ids, ids[:N_BEFORE]])  # in a circle, so that every context goes on
    contexts = np.lib.stride_tricks.sliding_window_view(ids, N_BEFORE)[:-1]
    _, context = np.unique(contexts, axis=0, return_inverse=True)
    places = np.argsort(context, kind="stable")  # by context
    n_places = np.bincount(context)
    first = np.cumsum(n_places) - n_places
    here = rng.integers(len(context), size=N_LANES)
    text = np.empty((n_chars // N_LANES, N_LANES), dtype=ids.dtype)
    for row in text:
        row[:] = ids[here]
        there = context[(here + 1) % len(context)]
        here = places[first[there] + (rng.random(N_LANES) * n_places[there]).astype(np.int64)]
    return np.ascontiguousarray(text.T).ravel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=20, help="million characters")
    parser.add_argument("--order", type=int, default=8)
    parser.add_argument("--smoothing", choices=SMOOTHINGS, default="kneser-ney")
    parser.add_argument("--words", action="store_true", help="count words and lines, too")
    parser.add_argument("--corpus", default="python-docs")
    given = parser.parse_args()

    corpus = make_corpus(named_texts.open_texts([given.corpus]), given.corpus, "all")
    ids = torch.from_numpy(markov_text(corpus.ids, given.mb * 1_000_000))
    print(f"{len(ids):,} characters like {given.corpus}, {len(corpus.vocab)} symbols; peak {peak_mb():.0f} MB")
    n_symbols = len(corpus.vocab)
    model = WordNGram(n_symbols, given.order) if given.words else NGram(n_symbols, given.order, given.smoothing)
    began, began_cpu = time.perf_counter(), time.process_time()
    model.count(ids, torch.as_tensor(corpus.vocab.char_classes))
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    what = "words, too" if given.words else given.smoothing
    print(f"counting {what}, order {given.order}: {took:.0f} s, of which {took_cpu:.0f} s on a core")
    sizes = [f"{len(model.head.level(k)[0]):,}" for k in range(1, given.order + 1)]
    print(f"{model.n_parameters:,} counts ({', '.join(sizes)}); peak {peak_mb():.0f} MB")

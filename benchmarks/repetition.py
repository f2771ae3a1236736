"""Repeated 15-grams and longest lines of sampled text, for each text that the cache model may read.

python benchmarks/repetition.py RUN ... [--temperature 0.5] [--num 100] [--length 500]

RUN is a run or a checkpoint file. A 15-gram is repeated if it stood in the 500 characters before it. The row "text" is
the training part itself, in pieces of the same length; the text is found by the run's recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from charlm.generation.defaults import CACHE_MODELS
from charlm.generation.language_model import LanguageModel
from charlm.generation.training_text import training_text
from charlm.storage import runs

N_GRAM, WITHIN = 15, 500  # characters


def repeated(text: str) -> tuple[int, int]:
    """Return the number of n-grams that stood within the last `WITHIN` characters, and of all n-grams."""
    last: dict[str, int] = {}
    n_repeated = 0
    for i in range(len(text) - N_GRAM + 1):
        gram = text[i : i + N_GRAM]
        n_repeated += i - last.get(gram, -WITHIN - 1) <= WITHIN
        last[gram] = i
    return n_repeated, max(0, len(text) - N_GRAM + 1)


def share_repeated(texts: Sequence[str]) -> float:
    """Return the fraction of the n-grams of all texts that are repeated."""
    n_repeated, n_grams = map(sum, zip(*map(repeated, texts), strict=True))
    return n_repeated / n_grams


def longest_line(text: str) -> int:
    """Return the length of the longest line."""
    return max(map(len, text.split("\n")))


def main() -> None:
    """Print one row for each run and cache model."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="+")
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--length", type=int, default=500)
    parser.add_argument("--checkpoints", type=Path, default=runs.FOLDER)
    given = parser.parse_args()
    print(f"{'run':20} {'cache model':12} {'repeated':>9} {'longest line':>13}")
    for name in given.run:
        model = LanguageModel.load(runs.find_checkpoint(name, given.checkpoints))
        part = training_text(model.metadata, "this benchmark").part("train")
        text = model.vocab.decode(part.tolist())
        pieces = [text[i : i + given.length] for i in range(0, len(text), given.length)]
        print(f"{name:20} {'text':12} {share_repeated(pieces):9.2%} {longest_line(text):13}")
        for cache_model in CACHE_MODELS:
            options = {"temperature": given.temperature, "cache_model": cache_model, "seed": 0}
            texts = ["".join(text) for text in model.generate_many(given.num, "", given.length, **options)]
            longest = max(map(longest_line, texts))
            print(f"{name:20} {cache_model:12} {share_repeated(texts):9.2%} {longest:13}", flush=True)


if __name__ == "__main__":
    main()

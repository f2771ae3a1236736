"""Samples of several runs on one text, measured: repeated 15-grams, copied 20-grams, real words, longest lines.

    python benchmarks/samples.py RUN ... [--temperature 0.5] [--num 100] [--length 500] [--cache-model own]
        [--page FILE]

RUN is a run or a checkpoint file. A 15-gram is repeated if it stood in the 500 characters before it. A 20-gram is
copied if it occurs in the training part. A word is real if it occurs in the training or the test part, in any case;
the first and the last word of a sample, which may be cut, are not counted. The first row is that of the validation
part of the first run's text, in pieces of the same length. `--page` writes the first 20 samples of the runs side by
side.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from charlm.data.corpus import Corpus
from charlm.files import atomic_write
from charlm.generation.copies import N_GRAM as N_COPIED
from charlm.generation.copies import find_copies
from charlm.generation.defaults import CACHE_MODELS
from charlm.generation.language_model import LanguageModel
from charlm.generation.training_text import training_text
from charlm.storage import runs

N_GRAM, WITHIN, N_SHOWN = 15, 500, 20  # characters, characters, samples
HEAD = f"{'':20} {'repeated':>9} {'copied':>8} {'longest copy':>13} {'real words':>11} {'longest line':>13}"


def repeated(text: str) -> tuple[int, int]:
    """Return the number of n-grams that stood within the last `WITHIN` characters, and of all n-grams."""
    last: dict[str, int] = {}
    n_repeated = 0
    for i in range(len(text) - N_GRAM + 1):
        gram = text[i : i + N_GRAM]
        n_repeated += i - last.get(gram, -WITHIN - 1) <= WITHIN
        last[gram] = i
    return n_repeated, max(0, len(text) - N_GRAM + 1)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def row(name: str, texts: Sequence[str], corpus: Corpus, known: set[str]) -> str:
    """Return a row of the table.

    Args:
        name: of the run.
        texts: its samples.
        corpus: the text that it was trained on.
        known: words that are real.
    """
    n_repeated, n_grams = map(sum, zip(*map(repeated, texts), strict=True))
    copies = find_copies([corpus.vocab.encode(text) for text in texts], corpus.part("train"))
    are_real = [word in known for text in texts for word in words(text)[1:-1]]
    longest = max(len(line) for text in texts for line in text.split("\n"))
    return (
        f"{name:20} {n_repeated / n_grams:9.2%} {copies.n_copied / copies.n_grams:8.2%} {copies.longest:13} "
        f"{sum(are_real) / max(1, len(are_real)):11.2%} {longest:13}"
    )


def page(samples: Mapping[str, Sequence[str]], command: str) -> str:
    """Return samples side by side, as Markdown."""
    blocks = [
        "# Samples side by side",
        f"Made by `{command}`; measured in [sampling.md](sampling.md#samples-side-by-side).",
    ]
    for i, group in enumerate(zip(*samples.values(), strict=True), start=1):
        blocks.append(f"## {i}")
        for name, text in zip(samples, group, strict=True):
            blocks.append(f"`{name}`\n\n```text\n{text.strip(chr(10))}\n```")
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    """Print one row for each run."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="+")
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--length", type=int, default=500)
    parser.add_argument("--cache-model", choices=CACHE_MODELS, default="prompt")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--checkpoints", type=Path, default=runs.FOLDER)
    given = parser.parse_args()
    if given.length < N_COPIED:
        parser.error(f"--length must be at least {N_COPIED}, got {given.length}")
    print(f"temperature {given.temperature}; repeated {N_GRAM}-grams, copied {N_COPIED}-grams\n{HEAD}")
    samples = {}
    for name in given.run:
        model = LanguageModel.load(runs.find_checkpoint(name, given.checkpoints))
        corpus = training_text(model.metadata, "this benchmark")
        parts = {part: model.vocab.decode(corpus.part(part).tolist()) for part in ("train", "valid", "test")}
        known = set(words(parts["train"] + " " + parts["test"]))
        if not samples:
            valid = parts["valid"]
            pieces = [valid[i : i + given.length] for i in range(0, len(valid) - N_COPIED, given.length)]
            print(row("validation part", pieces, corpus, known))
        options = {"temperature": given.temperature, "cache_model": given.cache_model, "seed": 0}
        samples[name] = ["".join(text) for text in model.generate_many(given.num, "", given.length, **options)]
        print(row(name, samples[name], corpus, known), flush=True)
    if given.page is not None:
        runs_given = " ".join(given.run)
        command = f"python benchmarks/samples.py {runs_given} --temperature {given.temperature} --length {given.length}"
        command += f" --cache-model {given.cache_model} --page FILE"
        atomic_write(given.page, page({name: texts[:N_SHOWN] for name, texts in samples.items()}, command).encode())


if __name__ == "__main__":
    main()

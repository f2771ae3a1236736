"""Defaults for small texts: plain `charlm train` beside counting, and the candidates that they were chosen from.

    python benchmarks/small_texts.py --half second prose=nietzsche.txt code=code.txt
    python benchmarks/small_texts.py --half first --tune lstm-ngram prose=nietzsche.txt code=code.txt
    python benchmarks/small_texts.py --half first --tune gru --sizes 20000,230000 --slices 1 words=words.txt

A kind of text is KIND=FILE, of which slices at random positions are taken; `chinese` without a file is random words of
two characters with Zipf's frequencies. A slice is split like any text. Held-out text is its test part and the
characters that follow the slice in the file (`--more`).

The first command prints bits per character on held-out text, and the difference between plain training and the better
of `ngram` and `word-ngram` (of each slice): mean and standard error over the slices. The second prints this difference
for each candidate of `lstm-ngram`. The third prints the best bits on the validation part for each dropout, the epoch
that had them, and the epochs until early stopping.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charlm.data.corpus import Corpus, make_corpus
from charlm.evaluation.metrics import nats_to_bits
from charlm.recipes import default
from charlm.training import session
from charlm.training.text_defaults import fit_to_text

COUNTING = ("ngram", "word-ngram")
HALVES = {"first": (0.0, 0.5), "second": (0.5, 1.0), "all": (0.0, 1.0)}
RATES = (0.0, 0.25, 0.5)  # of dropout, of the other networks
DROPOUTS = {
    "strong": {"head_dropout": 0.5, "input_dropout": 0.3},
    "weak": {"head_dropout": 0.2, "input_dropout": 0.0},
}


def chinese(n: int, seed: int = 0) -> str:
    """Return `n` characters of random words of two Chinese characters, with Zipf's frequencies and full stops."""
    draw = random.Random(seed)
    words = [chr(draw.randrange(0x4E00, 0x9FA5)) + chr(draw.randrange(0x4E00, 0x9FA5)) for _ in range(4000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    chosen = draw.choices(words, weights, k=n)
    return "".join(word + ("\u3002" if i % 8 == 7 else "") for i, word in enumerate(chosen))[:n]


def slices(kind: str, text: str, size: int, n: int, seed: int, more: int) -> Iterator[Corpus]:
    """Yield `n` slices of a text at random positions; the test part of each is longer by `more` characters."""
    draw = random.Random(f"{seed} {kind} {size}")
    last = len(text) - size - more
    for start in [draw.randrange(last + 1) for _ in range(n)] if last >= 0 else []:
        corpus = make_corpus(text[start : start + size].encode(), kind)
        after = corpus.vocab.encode_codepoints(np.array([*map(ord, text[start + size :][:more])], dtype=np.uint32))
        first, _ = corpus.bounds["test"]
        bounds = corpus.bounds | {"test": (first, size + more)}
        yield replace(corpus, ids=np.concatenate([corpus.ids, after]), bounds=bounds)


def trained(corpus: Corpus, **given: Any) -> dict[str, Any]:
    """Train with the defaults for a text; return bits per character, seconds of CPU, model and epochs."""
    begin = time.process_time()
    options = given.pop("options", {})
    recipe = default(given).replace(**given, options=options, device="cpu")
    recipe, _ = fit_to_text(recipe, {*given, *options}, corpus)
    result = session.train(recipe, corpus).metadata.result
    bits = {part: nats_to_bits(result[f"{part}_nats"]) for part in ("valid", "test")}
    epochs = {name: result.get(name) for name in ("best_epoch", "last_epoch")}
    return bits | epochs | {"model": recipe.model, "cpu": time.process_time() - begin}


def mean_and_error(values: list[float]) -> str:
    """Return the mean of some values and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):+.3f} ± {error:.3f}"


def report(kind: str, size: int, corpora: list[Corpus]) -> None:
    """Print a row: plain training beside counting."""
    plain = [trained(corpus) for corpus in corpora]
    counted = [[trained(corpus, model=model)["test"] for corpus in corpora] for model in COUNTING]
    differences = [run["test"] - min(bits) for run, *bits in zip(plain, *counted, strict=True)]
    columns = [statistics.mean(values) for values in ([run["test"] for run in plain], *counted)]
    bits = " | ".join(f"{value:.3f}" for value in columns)
    cpu = statistics.mean(run["cpu"] for run in plain)
    models = "/".join(sorted({run["model"] for run in plain}))
    print(f"| {kind} | {size:,} | {models} | {bits} | {mean_and_error(differences)} | {cpu:.1f} |", flush=True)


def candidates(size: int) -> dict[str, dict[str, Any]]:
    """Return the candidates of `lstm-ngram` for texts of `size` characters, by a description."""
    grid = [(n_hidden, 200, 8e-3, "strong") for n_hidden in (64, 128)] + [(128, 200, 8e-3, "weak")]
    if size < 20_000:
        grid = [(n_hidden, 120, rate, "strong") for n_hidden in (32, 64, 128) for rate in (4e-3, 8e-3)]
        grid += [(128, 240, 8e-3, "strong")]
    found = {}
    for n_hidden, n_steps, rate, dropout in grid:
        options = {"n_hidden": n_hidden, "n_embed": min(n_hidden, 64), **DROPOUTS[dropout]}
        name = f"{n_hidden} units, {n_steps} steps, {rate:g}, {dropout}"
        found[name] = {"n_steps": n_steps, "learning_rate": rate, "options": options}
    return found


def tune_experts(size: int, corpora: dict[str, list[Corpus]]) -> None:
    """Print bits above the better of the two counts for each candidate: mean over the slices of a kind, and of all."""
    counted = {kind: [min(trained(c, model=m)["test"] for m in COUNTING) for c in corpora[kind]] for kind in corpora}
    print(f"\n| {size:,} characters | {' | '.join(corpora)} | mean | CPU s |", flush=True)
    print("| --- |" + " --- |" * (len(corpora) + 2))
    for name, given in {"defaults": {}, **candidates(size)}.items():
        cells, means, cpu = [], [], []
        for kind, of_kind in corpora.items():
            runs = [trained(corpus, model="lstm-ngram", **with_epochs(corpus, given)) for corpus in of_kind]
            means.append([run["test"] - best for run, best in zip(runs, counted[kind], strict=True)])
            cells.append(f"{statistics.mean(means[-1]):+.3f}")
            cpu += [run["cpu"] for run in runs]
        total = mean_and_error([value for of_kind in means for value in of_kind])
        print(f"| {name} | {' | '.join(cells)} | {total} | {statistics.mean(cpu):.1f} |", flush=True)


def with_epochs(corpus: Corpus, given: dict[str, Any]) -> dict[str, Any]:
    """Return a candidate with its steps as epochs, and with early stopping."""
    if "n_steps" not in given:
        return dict(given)
    recipe, _ = fit_to_text(default({"model": ""}).replace(model="lstm-ngram"), {"model"}, corpus)
    assert recipe.batch_size is not None
    first, stop = corpus.bounds["train"]
    epochs = -(-given["n_steps"] // max(1, (stop - first) // (recipe.batch_size * recipe.bptt)))
    changes = {name: value for name, value in given.items() if name != "n_steps"}
    return changes | {"epochs": epochs, "patience": max(3, epochs // 4)}


def tune_dropout(model: str, size: int, corpora: dict[str, list[Corpus]]) -> None:
    """Print a row for each dropout, in front of the head and between the layers."""
    for dropout, kind in itertools.product(RATES, corpora):
        name = "dropout" if model == "transformer" else "head_dropout"
        for corpus in corpora[kind]:
            run = trained(corpus, model=model, options={name: dropout})
            cells = [model, kind, f"{size:,}", f"{dropout:g}", f"{run['valid']:.3f}"]
            cells += [f"{run['best_epoch']} of {run['last_epoch']}", f"{run['cpu']:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="KIND=FILE", help="kinds of text; also: chinese")
    parser.add_argument("--sizes", default="300,577,2000,20000", help="characters, separated by commas")
    parser.add_argument("--slices", type=int, default=10, help="of each kind and size")
    parser.add_argument("--more", type=int, default=1000, help="characters after a slice that are held out, too")
    parser.add_argument("--half", choices=HALVES, default="all", help="of the files, from which slices are taken")
    parser.add_argument("--seed", type=int, default=1, help="of the positions")
    parser.add_argument("--tune", metavar="MODEL", help="lstm-ngram: compare candidates; any other: compare dropout")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = {}
    for kind, _, file in (part.partition("=") for part in options.texts):
        text = Path(file).read_text("utf-8") if file else chinese(100_000)
        first, stop = (round(share * len(text)) for share in HALVES[options.half])
        texts[kind] = text[first:stop]
    if options.tune is None:
        print("| text | characters | model | charlm train | ngram | word-ngram | above the better | CPU s |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in map(int, options.sizes.split(",")):
        taken = {
            kind: [*slices(kind, text, size, options.slices, options.seed, options.more)]
            for kind, text in texts.items()
        }
        taken = {kind: corpora for kind, corpora in taken.items() if corpora}
        if options.tune is None:
            for kind, corpora in taken.items():
                report(kind, size, corpora)
        elif options.tune == "lstm-ngram":
            tune_experts(size, taken)
        else:
            tune_dropout(options.tune, size, taken)


if __name__ == "__main__":
    main()

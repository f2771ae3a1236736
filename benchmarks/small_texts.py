"""Plain `charlm train` on small texts beside counting: bits per character of the test part.

    python benchmarks/small_texts.py --names names.txt --code code.txt --poems poems.txt

Each kind of text is a file, of which slices at random positions are taken; a slice is split like any text. Without a
file, the kind is left out, except `chinese`: random words of two characters with Zipf's frequencies. The columns are
the mean over the slices, and the share of the slices in which plain training is at most 0.05 bits worse than the better
of the two.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from pathlib import Path

import torch

from charlm.data.corpus import make_corpus
from charlm.evaluation.metrics import nats_to_bits
from charlm.recipe import Recipe
from charlm.recipes import default
from charlm.training import session
from charlm.training.text_defaults import fit_to_text

KINDS = ("names", "code", "poems", "prose")


def chinese(n: int, seed: int = 0) -> str:
    """Return `n` characters of random words of two Chinese characters, with Zipf's frequencies and full stops."""
    draw = random.Random(seed)
    words = [chr(draw.randrange(0x4E00, 0x9FA5)) + chr(draw.randrange(0x4E00, 0x9FA5)) for _ in range(4000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    chosen = draw.choices(words, weights, k=n)
    return "".join(word + ("\u3002" if i % 8 == 7 else "") for i, word in enumerate(chosen))[:n]


def bits_and_cpu(text: str, **changes: str) -> tuple[float, float, str]:
    """Return the bits per character on the test part, the seconds of CPU, and the model."""
    begin = time.process_time()
    corpus = make_corpus(text.encode(), "slice")
    recipe = default(changes).replace(device="cpu", **changes)
    recipe, _ = fit_to_text(recipe, changes.keys(), corpus) if not changes else (Recipe().replace(**changes), "")
    result = session.train(recipe, corpus).metadata.result
    return nats_to_bits(result["test_nats"]), time.process_time() - begin, recipe.model


def row(kind: str, slices: list[str]) -> str:
    """Train on each slice and return a row of the table."""
    plain, counted, n_good, cpu = [], {"ngram": [], "word-ngram": []}, 0, 0.0
    for text in slices:
        mine, seconds, model = bits_and_cpu(text)
        best = []
        for name, values in counted.items():
            values.append(bits_and_cpu(text, model=name)[0])
            best.append(values[-1])
        plain.append(mine)
        n_good += mine <= min(best) + 0.05
        cpu += seconds
    n = len(slices)
    cells = [f"{sum(values) / n:.3f}" for values in (plain, *counted.values())]
    return f"| {kind} | {len(slices[0]):,} | {model} | {' | '.join(cells)} | {n_good}/{n} | {cpu / n:.1f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=Path, help=f"a file of {kind}")
    parser.add_argument("--chinese", type=Path, help="a file of Chinese text, instead of random words")
    parser.add_argument("--sizes", default="300,577,2000,20000", help="characters, separated by commas")
    parser.add_argument("--slices", type=int, default=10, help="of each kind and size")
    parser.add_argument("--seed", type=int, default=1, help="of the positions")
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    print("| text | characters | model | charlm train | ngram | word-ngram | within 0.05 | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        if options[kind] is None:
            continue
        text = options[kind].read_text("utf-8")
        for size in map(int, options["sizes"].split(",")):
            draw = random.Random(f"{options['seed']} {kind} {size}")
            if len(text) >= size:
                starts = [draw.randrange(len(text) - size + 1) for _ in range(options["slices"])]
                print(row(kind, [text[start : start + size] for start in starts]), flush=True)
    text = chinese(30_000) if options["chinese"] is None else options["chinese"].read_text("utf-8")[:30_000]
    print(row("chinese", [text]), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak of the process: {peak:,.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()

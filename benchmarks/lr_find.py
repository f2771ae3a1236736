"""Two epochs at the learning rates of a grid, and at the rate that `charlm lr-find` suggests: how far from the best?

python benchmarks/lr_find.py --prose nietzsche.txt --code code.txt --rows lr_find.jsonl

Small models (hidden size 128; transformer: 2 layers of 64) on the first 60,000 characters of two texts, of which nine
tenths are for training; ten rates from 3e-4 to 3e-2, evenly spaced on a logarithmic scale; the default schedule;
validation bits per character. Batches are 8 sequences of 32 characters, so that two epochs have 422 steps, about as
many as two epochs of Nietzsche by the defaults. Measured rows are kept in the file and not measured again.

With --defaults, sizes, batches and dropout are the defaults for the text: --models rnn,gru --chars 200000 --defaults.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import machine

from charlm.data.corpus import Corpus, make_corpus
from charlm.experiments.lr_find import find_rate
from charlm.recipe import Recipe
from charlm.training.loop import fit
from charlm.training.setup import gradient_callbacks, schedule_callback
from charlm.training.text_defaults import fit_to_text
from charlm.training.trainer import Trainer

MODELS: dict[str, dict[str, Any]] = {
    "rnn": {"n_hidden": 128},
    "gru": {"n_hidden": 128},
    "lstm": {"n_hidden": 128},
    "transformer": {"n_embed": 64, "n_layers": 2},
    "min-gru": {"n_hidden": 128},
}
N_CHARS = 60_000
LOWEST, HIGHEST, N_RATES = 3e-4, 3e-2, 10
GRID = [LOWEST * (HIGHEST / LOWEST) ** (i / (N_RATES - 1)) for i in range(N_RATES)]


def bits_at(rate: float, recipe: Recipe, corpus: Corpus) -> float:
    """Return validation bits per character after two epochs at a learning rate; infinite if it diverged."""
    trainer = Trainer.make(recipe.replace(learning_rate=rate, epochs=2), corpus)
    fit(trainer.state, [*gradient_callbacks(trainer.recipe), schedule_callback(trainer.recipe)])
    bits = trainer.score("valid").bits_per_char
    return bits if math.isfinite(bits) else math.inf


def recipe_of(model: str, corpus: Corpus, defaults: bool) -> Recipe:
    """Return the recipe of a small model, or the default one for a text."""
    if defaults:
        start = Recipe(model=model, split="nanogpt", device="cpu")
        return fit_to_text(start, {"model", "split", "device"}, corpus)[0].replace(patience=None)
    return Recipe(model=model, options=MODELS[model], bptt=32, batch_size=8, device="cpu")


def measure(
    models: list[str], texts: dict[str, str], defaults: bool, known: dict[str, float], rows: Path
) -> Iterator[list[str]]:
    """Yield a line of the table for each model and text."""
    for model in models:
        for name, text in texts.items():
            corpus = make_corpus(text.encode(), name, "nanogpt")
            recipe = recipe_of(model, corpus, defaults)
            found = find_rate(recipe.replace(epochs=2), corpus)
            bits = []
            for rate in [*GRID, found.suggestion]:
                key = f"{model} {name} {rate:.3e}" + (f" defaults {len(text)}" if defaults else "")
                if key not in known:
                    known[key] = bits_at(rate, recipe, corpus)
                    with rows.open("a") as file:
                        file.write(json.dumps({"key": key, "bits": known[key]}) + "\n")
                bits.append(known[key])
            best = min(range(N_RATES), key=bits.__getitem__)
            rates = [f"{rate:.1e}" for rate in (GRID[best], found.suggestion)]
            yield [
                model,
                name,
                rates[0],
                f"{bits[best]:.3f}",
                rates[1],
                f"{bits[-1]:.3f}",
                f"{bits[-1] / bits[best] - 1:+.1%}",
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prose", type=Path, required=True)
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="File of the measured rows.")
    parser.add_argument("--models", default=",".join(MODELS), help="Comma-separated.")
    parser.add_argument("--chars", type=int, default=N_CHARS, help="Characters of each text.")
    parser.add_argument("--defaults", action="store_true", help="Default sizes instead of small ones.")
    given = parser.parse_args()
    texts = {name: getattr(given, name).read_text("utf-8")[: given.chars] for name in ("prose", "code")}
    lines = given.rows.read_text().splitlines() if given.rows.is_file() else []
    known = {row["key"]: row["bits"] for row in map(json.loads, lines)}
    print(machine())
    print(
        "| model | text | best of the grid | bits | suggested | bits | |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for line in measure(given.models.split(","), texts, given.defaults, known, given.rows):
        print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()

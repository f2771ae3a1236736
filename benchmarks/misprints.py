"""Misprints among the most surprising characters of a text, and odd lines of a log among its most surprising lines.

Misprints: 40 changes of the first 20,000 characters of the default text's test part: two letters swapped, one doubled,
or one replaced; never so that the text stays as it was, never two within 20 characters. Found: one of the 100 surprises
that `charlm score RUN FILE --top 100` lists is at most 2 characters away. RUN is a trained model of the default text.

Log: 4,000 lines train a model of n-gram counts. Of 2,000 further lines, 20 are odd: another order of the fields, a
misspelt word, an unusual value, an unknown path, an error that came once. Found: among the 40 lines to which
`charlm score RUN FILE --by line` gives the most bits per character.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import require_text

from charlm.api import read_corpus
from charlm.api import train as train_model
from charlm.data.named_texts import DEFAULT_TEXT
from charlm.experiments.score import TextToScore, open_text
from charlm.experiments.trained_models import TrainedModel
from charlm.inspection.surprises import Surprises
from charlm.inspection.totals import by_line
from charlm.recipe import Recipe
from charlm.storage import runs
from charlm.training.setup import choose_device

N_CHARS, N_MISPRINTS, N_SURPRISES, NEAR, APART = 20_000, 40, 100, 2, 20
N_HISTORY, N_LINES, N_ODD, N_LISTED = 4000, 2000, 20, 40
PATHS = ["/", "/index.html", "/login", "/api/items", "/api/items/{n}", "/static/main.css", "/static/logo.png"]


def with_misprints(text: str, draw: random.Random) -> tuple[str, list[tuple[int, str]]]:
    """Return a text with misprints, and position and kind of each."""
    chars, made = list(text), []
    for at in sorted(draw.sample(range(APART, len(text) - APART, APART), N_MISPRINTS), reverse=True):
        kind = draw.choice(["swapped", "doubled", "replaced"])
        at += draw.randrange(APART // 2)
        while not (chars[at].isalpha() and chars[at + 1].isalpha() and chars[at] != chars[at + 1]):
            at += 1
        other = draw.choice([letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter != chars[at].lower()])
        new = {"swapped": chars[at + 1] + chars[at], "doubled": chars[at] * 2, "replaced": other}[kind]
        chars[at : at + (2 if kind == "swapped" else 1)] = new
        made = [(at, kind)] + [(place + (kind == "doubled"), other_kind) for place, other_kind in made]
    return "".join(chars), made


def log_line(second: int, draw: random.Random) -> list[str]:
    """Return the fields of a usual line."""
    path = draw.choice(PATHS).format(n=draw.randrange(100, 1000))
    method, status = draw.choice([("GET", "200"), ("GET", "200"), ("GET", "304"), ("POST", "201")])
    time = f"2025-03-{1 + second // 86400:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
    address = f"10.0.{draw.randrange(4)}.{draw.randrange(2, 255)}"
    return [time, "INFO", "server", address, method, path, status, f"{draw.randrange(5, 90)}ms"]


def odd_line(second: int, draw: random.Random, kind: int) -> str:
    """Return a line that differs from the usual ones in one of five ways."""
    time, level, name, address, method, path, status, took = log_line(second, draw)
    fields = [
        [time, name, level, address, method, path, status, took],
        [time, level, "sevrer", address, method, path, status, took],
        [time, level, name, address, method, path, "500", f"{draw.randrange(10_000, 90_000)}ms"],
        [time, level, name, address, method, "/admin/../../etc/passwd", "404", took],
        [time, "ERROR", name, "connection to the database was lost"],
    ]
    return " ".join(fields[kind])


def log(n: int, draw: random.Random, odd: frozenset[int] = frozenset(), start: int = 0) -> list[str]:
    """Return the lines of a log; those with the numbers `odd` are odd."""
    seconds = [start + 7 * i + draw.randrange(7) for i in range(n)]
    return [
        odd_line(second, draw, i % 5) if i in odd else " ".join(log_line(second, draw))
        for i, second in enumerate(seconds)
    ]


def opened(name: str, text: str, folder: Path) -> TextToScore:
    """Return a text as `charlm score` reads it with a run or a checkpoint file."""
    path = folder / "text.txt"
    path.write_text(text, "utf-8")
    model = TrainedModel.load(runs.find_checkpoint(name), choose_device("cpu"))
    return open_text([model], [str(path)], None, lambda message: None)


def surprising_offsets(text: TextToScore) -> list[int]:
    """Return the offsets of the most surprising characters."""
    surprises = Surprises(N_SURPRISES, text.models[0].model.vocab.symbols)
    for block in text.blocks():
        surprises.add(block)
    return [surprise.offset for surprise in surprises.finish()]


def line_numbers(text: TextToScore) -> Iterator[int]:
    """Yield the line numbers, from 0, the most bits per character first."""
    lines = [(line.totals.bits[0] / line.totals.n_chars, line.number - 1) for line in by_line(text.blocks(), 1)]
    return (number for _, number in sorted(lines, reverse=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="*", default=["nietzsche"], help="runs or checkpoints of the default text")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    require_text(DEFAULT_TEXT)
    draw = random.Random(arguments.seed)
    corpus = read_corpus(Recipe(corpus=(DEFAULT_TEXT,)))
    text, made = with_misprints(corpus.vocab.decode(corpus.part("test")[:N_CHARS]), draw)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run in arguments.run:
            places = surprising_offsets(opened(run, text, folder))
            found = [kind for at, kind in made if any(abs(at - place) <= NEAR for place in places)]
            kinds = ", ".join(
                f"{found.count(kind)} of {sum(kind == other for _, other in made)} {kind}"
                for kind in ("swapped", "doubled", "replaced")
            )
            print(f"{run}: {len(found)} of {N_MISPRINTS} misprints among {N_SURPRISES} places: {kinds}")
        odd = frozenset(draw.sample(range(N_LINES), N_ODD))
        history, lines = log(N_HISTORY, draw), log(N_LINES, draw, odd, start=7 * N_HISTORY)
        model = train_model(text="\n".join(history) + "\n", model="ngram", folder=folder / "log")
        model.save(folder / "log.safetensors")
        ranked = list(line_numbers(opened(str(folder / "log.safetensors"), "\n".join(lines) + "\n", folder)))
        n_found = len(odd.intersection(ranked[:N_LISTED]))
        print(
            f"log, ngram: {n_found} of {N_ODD} odd lines among {N_LISTED}; {len(odd.intersection(ranked[:N_ODD]))} ",
            end="",
        )
        print(f"among the first {N_ODD}")

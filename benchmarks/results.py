"""The page of record: every architecture, tuned once, on several texts; counting and compressors beside.

    python benchmarks/results.py run FOLDER                     # trains; goes on where it was
    python benchmarks/results.py page docs/results              # docs/results.md from docs/results/*.json
    python benchmarks/results.py run FOLDER --parameters 100000 --epochs 2 --trial-epochs 1     # a smaller budget

`run` tunes on the validation part of the first text and takes the chosen values on the others, on which nothing is
tuned. Each text has a folder with its results.json, which grows with each row. With --minutes, five architectures are
trained for that time on the first text as well. `rnn-scratch`, `gru-scratch` and `lstm-scratch` are left out: they
equal `rnn`, `gru` and `lstm` (tests/models/test_equivalence.py). `page` writes the tables and the figures of all
results.json files of a folder, by their names; it trains nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import torch

from charlm import models
from charlm.errors import CharlmError
from charlm.experiments.bench import Contest, Results, Tuning, parse_space, run_contest
from charlm.experiments.bench.entry import folder_name
from charlm.experiments.bench.figures import curves_of, plot_curves, plot_scatter
from charlm.experiments.bench.tables import caption, entry_table, markdown_table, pair_caption, pair_table
from charlm.messages import say

TEXTS = ["nietzsche", "python-docs", "bible-kjv", "fortunes"]
SPACE = "learning_rate=1e-3..3e-2,dropout=0..0.5,head_dropout=0..0.5,weight_dropout=0..0.5"
NAMES = [name for name in models.MODELS if not name.endswith("-scratch") and name != "ngram"]
N_PARAMETERS, N_CHARS, N_TRIALS, TRIAL_SECONDS, MINUTES = 1_000_000, 2_000_000, 8, 60, 10
TEN_MINUTES = ["gru", "lstm", "awd-lstm", "transformer", "lstm-ngram"]
PUBLISHED = Path(__file__).parents[1] / "docs" / "published.json"


def run(options: argparse.Namespace) -> None:
    """Train what is missing."""
    torch.set_num_threads(options.threads)
    seconds = options.trial_seconds / 60 if options.trial_epochs is None else None
    tuning = Tuning(parse_space(SPACE), options.trials, seconds, options.trial_epochs)
    budget = {"epochs": options.epochs} if options.epochs else {}
    n_chars = None if options.epochs else options.chars
    size = options.parameters
    chosen: dict[str, dict[str, float]] = {}
    names = options.models or NAMES
    for text in options.texts:
        changes = {"corpus": [text], "device": "cpu", **budget}
        contest = Contest(names, changes, options.seeds, size, n_chars, None if chosen else tuning, chosen, True)
        chosen = run_contest(contest, options.folder / folder_name(Path(text).stem), say).chosen
    if options.minutes:
        changes = {"corpus": [options.texts[0]], "device": "cpu", "minutes": options.minutes}
        own = {name: chosen[name] for name in TEN_MINUTES}
        contest = Contest(TEN_MINUTES, changes, options.seeds, size, None, None, own, True)
        run_contest(contest, options.folder / f"{options.minutes:g}-minutes", say)


def page(folder: Path) -> None:
    """Write the page beside a folder of results.json files, which are named by their texts."""
    blocks = [
        "# Results",
        "Made by `python benchmarks/results.py page docs/results` from the files in [results/](results), which "
        "`python benchmarks/results.py run` fills. Protocol: [protocol.md](protocol.md). MB: peak memory of the "
        "process, PyTorch included. No difference: the 95 % interval of the architectures contains 0.",
        absent(folder),
    ]
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != "nietzsche", path.stem)):
        results = Results.load(path)
        blocks += [
            f"## {path.stem}",
            caption(results),
            smaller(results),
            missing(results),
            markdown_table(*entry_table(results)),
            cost(results),
        ]
        if results.pairs:
            blocks += [pair_caption(results), markdown_table(*pair_table(results))]
        for name, plot in {"curves": plot_curves, "scatter": plot_scatter}.items():
            if name != "curves" or curves_of(results):
                plot(results, [folder / f"{path.stem}-{name}.svg"])
                blocks.append(f"![{name} of {path.stem}]({folder.name}/{path.stem}-{name}.svg)")
    blocks += [
        "## Numbers of other programs",
        "Of other programs, each by the protocol that is named. They compare with no row of another protocol, and so "
        "not with the tables above.",
        published(),
    ]
    text = "\n\n".join(block.strip() for block in blocks if block) + "\n"
    folder.with_suffix(".md").write_text(re.sub(r"\n{3,}", "\n\n", text), "utf-8")


def published(path: Path = PUBLISHED) -> str:
    """Return the numbers of other programs as a table in Markdown, the same as in docs/texts.md."""
    head = ["program", "model", "protocol", "text", "number", "source"]
    rows = json.loads(path.read_text("utf-8"))
    return markdown_table(
        head, [[f"{row[key]} {row['unit']}" if key == "number" else row[key] for key in head] for row in rows]
    )


def cost(results: Results) -> str:
    """Return the seconds that trainings and trials took."""
    rows = [row for row in results.rows if "seconds" in row]
    hours = sum(row["seconds"] for row in rows) / 3600
    trials = sum(row["seconds"] or 0.0 for row in results.trials) / 3600
    tuning = f", {len(results.trials)} trials {trials:.1f} hours" if trials else ""
    return f"{len(rows)} trainings took {hours:.1f} hours{tuning}, each on the threads named above."


def absent(folder: Path) -> str:
    """Return which parts of the page of record are not there."""
    wanted = {folder_name(text) for text in TEXTS} | {f"{MINUTES}-minutes"}
    left = sorted(wanted - {path.stem for path in folder.glob("*.json")})
    return f"**Missing**: {', '.join(left)}." if left else ""


def smaller(results: Results) -> str:
    """Return a note if the models are smaller than those of the page of record."""
    if results.n_parameters is None or results.n_parameters >= N_PARAMETERS:
        return ""
    return (
        f"**A smaller budget** than that of the command ({N_PARAMETERS:,} parameters, {N_CHARS / 1e6:g}M characters, "
        f"{N_TRIALS} trials of {TRIAL_SECONDS} s). The networks are far from converged, so the order is that of quick "
        "learners, and counting is hard to beat. At the same number of characters, char3, loop and concat take four "
        "times as many steps as the others (batches of 512 characters, not 2,048)."
    )


def missing(results: Results) -> str:
    """Return which trainings are not there."""
    wanted = {(name, seed) for name in results.entries for seed in range(results.n_seeds)}
    counting = {name for name in results.entries if not models.find(results.entries[name]["model"]).uses_gradients}
    wanted -= {(name, seed) for name, seed in wanted if name in counting and seed}
    there = {(row["entry"], row["seed"]) for row in results.rows if "seed" in row}
    left = sorted(wanted - there)
    if not left:
        return ""
    return "**Missing rows** (entry and seed): " + ", ".join(f"{name} {seed}" for name, seed in left) + "."


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("folder", type=Path)
    runs.add_argument("--texts", nargs="+", default=TEXTS)
    runs.add_argument("--models", nargs="+")
    runs.add_argument("--parameters", type=int, default=N_PARAMETERS)
    runs.add_argument("--chars", type=int, default=N_CHARS)
    runs.add_argument("--epochs", type=int, help="epochs of a training instead of --chars")
    runs.add_argument("--seeds", type=int, default=3)
    runs.add_argument("--trials", type=int, default=N_TRIALS)
    runs.add_argument("--trial-seconds", type=float, default=TRIAL_SECONDS)
    runs.add_argument("--trial-epochs", type=int, help="epochs of a trial instead of --trial-seconds")
    runs.add_argument("--minutes", type=float, help="train five architectures for this time as well, 10 for the page")
    runs.add_argument("--threads", type=int, default=1)
    commands.add_parser("page").add_argument("folder", type=Path)
    options = parser.parse_args()
    try:
        run(options) if options.command == "run" else page(options.folder)
    except CharlmError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""The page of record, docs/results.md: every architecture with three seeds on four texts, tuned once.

    python benchmarks/results.py run FOLDER --text-chars 600000 --minutes 10    # trains what is missing in FOLDER
    python benchmarks/results.py merge docs/results/nietzsche.json FOLDER/nietzsche     # and so for each folder there
    python benchmarks/results.py page docs/results      # docs/results.md and its figures, from docs/results/*.json

`run` tunes on the validation part of the first text, and the other texts take the chosen values. For `--minutes` on the
first text, five architectures have the recipes in benchmarks/ten_minutes: the best learning rate and dropout of a short
training are not those of a long one. Each text has a folder in FOLDER, whose results.json grows with each training. No
architecture or default was chosen on the other texts; `fortunes` and `miscfiles` are not among them, because defaults
for small texts were chosen on parts of them (docs/texts.md). `rnn-scratch`, `gru-scratch` and `lstm-scratch` are left
out: they equal `rnn`, `gru` and `lstm` (tests/models/test_equivalence.py). So are `char3`, `loop` and `concat`: they
read windows, and one training with a million parameters takes 10 to 30 minutes of one core.
They have a row each in docs/results/defaults.json, where each model has its default size and training, as in

    charlm bench ngram word-ngram rnn gru char3 lstm quick best loop concat --corpus nietzsche --seeds 1 --name defaults

`page` writes some of these rows into the table of README.

Two cores: each process takes half of the models, and `merge` makes one file of two.

    python benchmarks/results.py run A --text-chars 600000 --models gru lstm mogrifier transformer min-lstm word-ngram &
    python benchmarks/results.py run B --text-chars 600000 --models rnn lstm-ngram awd-lstm min-gru mamba2 &
    python benchmarks/results.py merge docs/results/nietzsche.json A/nietzsche B/nietzsche --note "two at once"

`run` continues from the results.json of each folder alone. Without the other files of an earlier run, copy them:

    mkdir -p FOLDER/nietzsche && cp docs/results/nietzsche.json FOLDER/nietzsche/results.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from charlm import models
from charlm.data.encoding import decode
from charlm.data.named_texts import open_texts
from charlm.errors import CharlmError, InputNotFoundError
from charlm.experiments.bench import Contest, Results, Tuning, is_ngram, parse_space, run_contest
from charlm.experiments.bench.entry import BASELINE, folder_name
from charlm.experiments.bench.figures import curves_of, plot_curves, plot_scatter
from charlm.experiments.bench.merging import merge
from charlm.experiments.bench.tables import markdown_table, tables_of
from charlm.files import atomic_write
from charlm.messages import say
from charlm.recipes.files import DEFAULT_RECIPE

TEXTS = ["nietzsche", "python-docs", "bible-kjv", "dict-gcide"]
SPACE = "learning_rate=1e-3..3e-2,dropout=0..0.3,head_dropout=0..0.3,weight_dropout=0..0.5"
WINDOWS = ("char3", "loop", "concat")
NAMES = [name for name in models.MODELS if not name.endswith("-scratch") and name not in (BASELINE, *WINDOWS)]
N_PARAMETERS, N_CHARS, N_SEEDS, N_TRIALS, MINUTES = 1_000_000, 2_000_000, 3, 8, 10
TEN_MINUTES = ["gru", "lstm", "awd-lstm", "transformer", "lstm-ngram"]
DEFAULTS = "defaults"  # file of each model with its default size and training
RECIPES = Path(__file__).parent / "ten_minutes"  # with sizes and dropout for that time
FILES = [DEFAULTS, *TEXTS, f"{MINUTES}-minutes"]  # of the page, in its order
README_ROWS = ("char3", "rnn", "ngram", "gru", "word-ngram", "quick", "best")
README_TABLE = re.compile(r"(?<=<!-- results -->\n)(\|.*\n)*")
PUBLISHED = Path(__file__).parents[1] / "docs" / "published.json"


def run(options: argparse.Namespace) -> None:
    """Tune and train what is missing."""
    torch.set_num_threads(options.threads)
    tuning = Tuning(parse_space(SPACE), options.trials, epochs=options.trial_epochs)
    names = options.models or NAMES
    first, *others = options.texts
    for text in others:
        open_texts([text])  # a missing one is an error before the first training
    chosen = contest(options, text_name(first), names, first, tuning=tuning).chosen
    for text in others:
        contest(options, text_name(text), names, first_chars(text, options.text_chars, options.folder), chosen)
    timed = [str(RECIPES / f"{name}.toml") for name in TEN_MINUTES if name in names]
    if options.minutes and timed:
        contest(options, f"{options.minutes:g}-minutes", timed, first, minutes=options.minutes)


def contest(
    options: argparse.Namespace,
    name: str,
    names: Sequence[str],
    corpus: str,
    chosen: Mapping[str, Mapping[str, float]] | None = None,
    tuning: Tuning | None = None,
    minutes: float | None = None,
) -> Results:
    """Run one benchmark of the page, in the folder of its name, for a number of characters or for `minutes`."""
    say(f"folder {options.folder / name}")
    return run_contest(
        Contest(
            names,
            {"corpus": [corpus], "device": "cpu"} | ({} if minutes is None else {"minutes": minutes}),
            options.seeds,
            options.parameters if minutes is None else None,
            options.chars if minutes is None else None,
            tuning,
            chosen or {},
            is_part=True,
            all_compressors=True,
        ),
        options.folder / name,
        say,
    )


def text_name(text: str) -> str:
    """Return the name of a text's folder and file."""
    return folder_name(Path(text).stem)


def first_chars(text: str, n_chars: int | None, folder: Path) -> str:
    """Return a text, or where it is longer than `n_chars` a file in the folder with its first characters."""
    whole = "" if n_chars is None else "".join(decode(open_texts([text]), text))
    if n_chars is None or len(whole) <= n_chars:
        return text
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{text_name(text)}, first {n_chars:,} characters"
    atomic_write(path, whole[:n_chars].encode())
    return str(path)


def page(folder: Path) -> None:
    """Write the page beside a folder of results.json files, named by their texts, and README's table; train nothing.

    Raises:
        InputNotFoundError: there are no such files.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.json"))}
    if not paths:
        raise InputNotFoundError(f"{folder}: has no .json files; `run` and `merge` make them")
    absent = [name for name in FILES if name not in paths]
    blocks = [
        "# Results",
        "Made by `python benchmarks/results.py page docs/results` from the files in [results/](results), which "
        "`python benchmarks/results.py run` and `merge` fill. Protocol: [protocol.md](protocol.md). Hyper-parameters "
        f"are tuned on the validation part of {TEXTS[0]}, or those of a recipe; nothing is tuned on the other texts. "
        "train/s, sample/s: characters per second in training and in sampling. MB: peak memory of the process, PyTorch "
        "included. No difference: the 95 % interval of the architectures contains 0; with one seed, that of these "
        "models.",
        f"**Missing**: {', '.join(absent)}." if absent else "",
    ]
    loaded = {name: Results.load(paths[name]) for name in sorted(paths, key=page_order)}
    if texts := [name for name in loaded if name in TEXTS]:
        blocks += [
            "## All texts",
            "Bits per character on the test parts; sizes, budgets and intervals are in the sections of the texts.",
            overview({name: loaded[name] for name in texts}),
        ]
    for name, results in loaded.items():
        wanted = TEN_MINUTES if name.endswith("-minutes") else () if name == DEFAULTS else NAMES
        missing = missing_trainings(results, wanted)
        blocks += [f"## {name}", smaller_budget(results), missing]
        for table in tables_of(results):
            blocks += [table.caption, markdown_table(table.head, table.cells)]
        blocks.append(cost(results))
        if name == DEFAULTS and (readme := folder.resolve().parents[1] / "README.md").exists():
            text = readme.read_text("utf-8")
            atomic_write(readme, README_TABLE.sub(readme_table(results), text).encode())
        for figure, plot in {"curves": plot_curves, "scatter": plot_scatter}.items():
            if figure != "curves" or curves_of(results):
                plot(results, [folder / f"{name}-{figure}.svg"])
                blocks.append(f"![{figure} of {name}]({folder.name}/{name}-{figure}.svg)")
    blocks += [
        "## Numbers of other programs",
        "Each by the protocol that is named. They compare with no row of another protocol, and so not with the tables "
        "above.",
        published(),
    ]
    text = "\n\n".join(block.strip() for block in blocks if block) + "\n"
    atomic_write(folder.with_suffix(".md"), re.sub(r"\n{3,}", "\n\n", text).encode())


def page_order(name: str) -> tuple[int, str]:
    """Return the sort key of a file on the page; unknown names are the last."""
    return (FILES.index(name) if name in FILES else len(FILES)), name


def overview(texts: Mapping[str, Results]) -> str:
    """Return the bits of each model on the test parts, in Markdown; ordered by the first text."""
    found = {name: {row[0]: row[3] for row in tables_of(results)[0].cells} for name, results in texts.items()}
    rows = dict.fromkeys(model for bits in found.values() for model in bits)
    return markdown_table(
        ["model", *found], [[model, *(bits.get(model, "-") for bits in found.values())] for model in rows]
    )


def published(path: Path = PUBLISHED) -> str:
    """Return the numbers of other programs as a table in Markdown, the same as in docs/texts.md."""
    head = ["program", "model", "protocol", "text", "number", "source"]
    rows = json.loads(path.read_text("utf-8"))
    return markdown_table(
        head, [[f"{row[key]} {row['unit']}" if key == "number" else row[key] for key in head] for row in rows]
    )


def readme_table(results: Results) -> str:
    """Return the table of README, in Markdown: commands and their results, the best last."""
    cells = []
    for name, n_parameters, valid, test, _, seconds, *_ in reversed(tables_of(results)[0].cells):
        if name in README_ROWS:
            kind = f" --model {name}" if name in models.MODELS else f" --recipe {name}"
            command = "charlm train" if name == DEFAULT_RECIPE else f"charlm train{kind}"
            cells.append([f"`{command}`", n_parameters, valid, test, seconds])
    return markdown_table(["command", "parameters and counts", "valid", "test", "seconds"], cells)


def cost(results: Results) -> str:
    """Return the time that trainings and trials took."""
    trainings = [row["seconds"] for row in results.rows if "seconds" in row]
    trials = [trial["seconds"] for trial in results.trials if trial["seconds"] is not None]
    tuning = f", {len(trials)} trials {sum(trials) / 3600:.1f} hours" if trials else ""
    return f"{len(trainings)} trainings took {sum(trainings) / 3600:.1f} hours{tuning}."


def smaller_budget(results: Results) -> str:
    """Return a note if the models or their trainings are smaller than those of the page of record."""
    trained = [row["n_chars"] for row in results.rows if "n_chars" in row and not is_ngram(row["model"])]
    is_timed = any("minutes" in recipe for recipe in results.entries.values())
    found = []
    if results.n_parameters is not None and results.n_parameters < N_PARAMETERS:
        found.append(f"{results.n_parameters:,} parameters instead of {N_PARAMETERS:,}")
    if trained and not is_timed and max(trained) < 0.75 * N_CHARS:  # they are rounded to whole epochs
        found.append(f"{max(trained):,} characters instead of {N_CHARS:,}")
    return f"**A smaller budget** than that of the page of record: {', '.join(found)}." if found else ""


def missing_trainings(results: Results, names: Sequence[str]) -> str:
    """Return which trainings are not there, by seed; of models that count, one is enough.

    Args:
        results: of a text.
        names: entries that are wanted; those of the results are wanted, too.
    """
    wanted = dict(zip(names, names, strict=True)) | {name: r["model"] for name, r in results.entries.items()}
    there = {(row["entry"], row.get("seed")) for row in results.rows}
    found: dict[str, list[str]] = {}
    for i in range(results.n_seeds):
        seed = results.first_seed + i
        left = [name for name, model in wanted.items() if (name, seed) not in there and not (i and is_ngram(model))]
        if left:
            found.setdefault(", ".join(left), []).append(str(seed))
    listed = [f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} of {names}" for names, seeds in found.items()]
    return f"**Missing trainings**: {'; '.join(listed)}." if found else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="tune and train what is missing")
    runs.add_argument("folder", type=Path)
    runs.add_argument("--texts", nargs="+", default=TEXTS, help="the first one is tuned on")
    runs.add_argument("--text-chars", type=int, help="read the first characters of the texts after the first one")
    runs.add_argument("--models", nargs="+", help="instead of all architectures")
    runs.add_argument("--parameters", type=int, default=N_PARAMETERS)
    runs.add_argument("--chars", type=int, default=N_CHARS, help="of a training, rounded to whole epochs")
    runs.add_argument("--seeds", type=int, default=N_SEEDS)
    runs.add_argument("--trials", type=int, default=N_TRIALS)
    runs.add_argument("--trial-epochs", type=int, default=1)
    runs.add_argument("--minutes", type=float, help=f"train five architectures for a time, too; {MINUTES} for the page")
    runs.add_argument("--threads", type=int, default=1)
    merges = commands.add_parser("merge", help="one results.json of several with other models or seeds")
    merges.add_argument("out", type=Path)
    merges.add_argument("parts", type=Path, nargs="+", help="results.json files, or their folders")
    merges.add_argument("--note", help="added to the machine, such as how many trainings ran at once")
    commands.add_parser("page", help="write the page and its figures").add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            run(options)
        elif options.command == "merge":
            merged = merge({str(path): Results.load(path) for path in options.parts}, [BASELINE, *NAMES])
            if options.note:
                merged.machine = "; ".join(dict.fromkeys([*merged.machine.split("; "), options.note]))
            options.out.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(options.out, merged.to_json().encode())
        else:
            page(options.folder)
    except CharlmError as error:
        print(f"results.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("results.py: interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

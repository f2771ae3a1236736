"""`charlm bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlm.cli.completion import complete_models_and_recipes
from charlm.cli.options import FilePath, GroupedCommand, Name, Number, folder_option, json_option, option
from charlm.cli.recipe_options import some_recipe_options
from charlm.cli.table import table
from charlm.errors import CharlmError, UsageError
from charlm.messages import say

if TYPE_CHECKING:
    from charlm.experiments.bench import Results

TEXT = ("corpus", "split", "bytes", "lower", "min_count")
FORMS = ("markdown", "latex", "csv")
NEEDS = {"trials": "--tune", "trial_minutes": "--tune", "rows": "--reproduce"}  # options that change another one
WITH = {"--from": {*FORMS, "as_json"}, "--reproduce": {"rows", "device", "corpus", "as_json"}}  # options beside them


@click.command(
    cls=GroupedCommand,
    help="Train several models on one text under the one protocol; print a table, the best first, with n-gram and "
    "compression baselines, and the differences of pairs with 95 % intervals. MODEL is an architecture or a recipe; "
    "options follow a colon: lstm:n_layers=2,learning_rate=0.01. --epochs and --chars give all models the same number "
    "of characters, --minutes the same time; the defaults below are those of an architecture, a recipe keeps its own. "
    "The same command resumes an interrupted benchmark.",
)
@click.argument("model", nargs=-1, type=Name(), shell_complete=complete_models_and_recipes)
@option(
    "--tune",
    "space",
    metavar="NAME=LOW..HIGH,...",
    help="Choose hyper-parameters of each model on the validation part, as learning_rate=1e-3..3e-2,dropout=0..0.5; a "
    "model takes part in those that it has. By optuna where it is installed (extra `tune`).",
    group="Optimiser",
)
@option(
    "--trials",
    type=Number("trials"),
    default=12,
    show_default=True,
    help="Trials of --tune for each model.",
    group="Optimiser",
)
@option(
    "--trial-minutes",
    type=Number("minutes"),
    help="Time limit of each trial; the best one and the default values then train once more with the whole budget. "
    "[default: the budget of the training]",
    group="Optimiser",
)
@option(
    "--seeds",
    type=Number("seeds"),
    default=3,
    show_default=True,
    help="Trainings per model, by seed.",
    group="Optimiser",
)
@option(
    "--parameters",
    type=Number("parameters"),
    help="Match this number of parameters by the hidden sizes.",
    group="Model",
)
@option("--chars", type=Number("chars"), help="Characters of a training, in whole epochs.", group="Schedule")
@option(
    "--name",
    type=Name(),
    default="bench",
    show_default=True,
    help="Folder of the benchmark, in the folder of runs.",
    group="Saving",
)
@some_recipe_options(*TEXT, "epochs", "minutes", "seed", "device")
@option(
    "--from",
    "source",
    type=FilePath(path_type=Path),
    help="Make tables and figures again from the results.json in this folder, without training.",
)
@option(
    "--reproduce",
    type=FilePath(path_type=Path),
    help="Train some rows of this results.json again; are they within the interval over its seeds? --corpus names its "
    "text where that has moved.",
)
@option("--rows", type=Number("rows"), default=3, show_default=True, help="Rows of --reproduce.")
@option("--markdown", is_flag=True, help="Print the tables in Markdown.")
@option("--latex", is_flag=True, help="Print the tables in LaTeX, with booktabs.")
@option("--csv", is_flag=True, help="Print one line a training as CSV.")
@folder_option
@json_option
def bench(
    model: tuple[str, ...],
    space: str | None,
    trials: int,
    trial_minutes: float | None,
    seeds: int,
    parameters: int | None,
    chars: int | None,
    name: str,
    source: Path | None,
    reproduce: Path | None,
    rows: int,
    folder: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """See the command's help."""
    if [bool(model), source is not None, reproduce is not None].count(True) != 1:
        raise UsageError("name models to train, or give --from FOLDER, or --reproduce FILE: one of the three")
    forms = [name for name in FORMS if given.pop(name)]
    if len(forms) + as_json > 1:
        first, second, *_ = [*forms, "json"]
        raise UsageError(f"--{first} and --{second} are both given; leave out one of them")
    form = forms[0] if forms else None
    _check_options(click.get_current_context())

    from charlm.experiments import bench as b

    if reproduce is not None:
        _reproduce(reproduce, rows, given["device"], given["corpus"], as_json)
        return
    if source is not None:
        _print(b.Results.load(source), source if source.is_dir() else source.parent, form, as_json)
        return
    if chars is not None and (given["epochs"] or given["minutes"]):
        raise UsageError("--chars is a budget, like --epochs and --minutes; leave out the others")

    from charlm.storage import runs

    target = runs.named_folder(name, folder)
    contest = b.Contest(
        model,
        {key: value for key, value in given.items() if value not in (None, ())},
        seeds,
        parameters,
        chars,
        None if space is None else b.Tuning(b.parse_space(space), trials, trial_minutes),
    )
    try:
        results = b.run_contest(contest, target, say)
    except KeyboardInterrupt:
        say("the same command resumes this benchmark")
        raise
    _print(results, target, form, as_json)


def _check_options(context: click.Context) -> None:
    """Refuse an option that has no meaning beside the other ones.

    Raises:
        UsageError: there is one.
    """
    given = {
        param.opts[0]: param.name
        for param in context.command.params
        if context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    }
    for flag, name in given.items():
        if name in NEEDS and NEEDS[name] not in given:
            raise UsageError(f"{flag} needs {NEEDS[name]}")
        for other in WITH.keys() & given.keys():
            if flag != other and name not in WITH[other]:
                raise UsageError(f"{flag} has no meaning with {other}; leave it out")


def _print(results: Results, target: Path, form: str | None, as_json: bool) -> None:
    """Print the tables in a form, and write all forms and the figures."""
    from charlm.experiments.bench import report, tables

    if as_json:
        print(json.dumps({"summary": results.summary, "pairs": results.pairs}))
    elif form is not None:
        print(report.FORMATS[form][1](results), end="")
    else:
        shown = tables.tables_of(results)
        print("\n\n".join(table(each.head, each.cells) for each in shown))
        print("\n".join(each.caption for each in shown), file=sys.stderr)
    try:
        files = report.write_report(results, target)
    except CharlmError as error:
        say(str(error))
        files = report.write_tables(results, target)
    print(f"files: {target}/ results.json, {', '.join(files)}; tensorboard --logdir {target}", file=sys.stderr)


def _reproduce(path: Path, n_rows: int, device: str | None, texts: tuple[str, ...], as_json: bool) -> None:
    """Print the rows that are trained again; a row outside its interval is an error."""
    from charlm.experiments.bench.reproduction import reproduce
    from charlm.experiments.bench.tables import interval

    found = list(reproduce(path, n_rows, say, device, texts))
    words = {True: "within", False: "outside", None: "one seed: no interval"}
    cells = [
        [
            row["entry"],
            str(row["seed"]),
            f"{row['recorded_bits']:.3f}",
            "diverged" if row["reproduced_bits"] is None else f"{row['reproduced_bits']:.3f}",
            interval(row["interval"]).replace("+", ""),
            words[row["is_within"]],
        ]
        for row in found
    ]
    head = ["model", "seed", "recorded", "reproduced", "interval", "result"]
    print(json.dumps(found) if as_json else table(head, cells))
    n_outside = sum(row["is_within"] is False for row in found)
    if n_outside:
        raise CharlmError(
            f"{path}: {n_outside} of {len(found)} rows are outside their interval; compare the versions, and the "
            "machines where minutes were the budget"
        )

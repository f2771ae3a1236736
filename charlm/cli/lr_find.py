"""`charlm lr-find`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import FilePath, GroupedCommand, Number, folder_option, json_option, option
from charlm.cli.recipe_options import RECIPE_KEYS, recipe_options, take_recipe
from charlm.cli.table import table
from charlm.errors import OutputError

# Recipe keys without an effect on the result: the test sets the rate, ends by itself, and keeps nothing.
UNUSED = """
    learning_rate skip_nonfinite ema schedule warmup_epochs hold_epochs drop_epochs n_cycles patience save_steps
    save_minutes unfreeze_epochs
""".split()
USED = tuple(name for name in RECIPE_KEYS if name not in UNUSED)


@click.command(
    cls=GroupedCommand,
    help="Learning-rate range test: raise the rate at every step and suggest one for `charlm train`. The suggestion is "
    "for a training of --epochs or --minutes; a longer one needs a lower rate. The test takes as long as --n-steps of "
    "training.",
)
@recipe_options(*USED)
@option(
    "--lowest", type=Number("lowest"), default=1e-5, show_default=True, help="First learning rate.", group="Schedule"
)
@option(
    "--highest", type=Number("highest"), default=1.0, show_default=True, help="Last learning rate.", group="Schedule"
)
@option("--n-steps", type=Number("n_steps"), default=200, show_default=True, help="Training steps.", group="Schedule")
@option("--plot", "file", type=FilePath(path_type=Path, dir_okay=False), help="Plot the curve: .png, .svg or .pdf.")
@folder_option
@json_option
def lr_find(
    lowest: float, highest: float, n_steps: int, file: Path | None, folder: Path, as_json: bool, **given: Any
) -> None:
    """See the command's help."""
    if lowest >= highest:
        raise click.UsageError(f"--lowest {lowest} must be below --highest {highest}")
    if file is not None:
        from charlm.experiments.plots import check_suffix

        check_suffix(file)
    choices, keys = take_recipe(given, folder)

    from charlm.api import read_recipe_text
    from charlm.evaluation.metrics import nats_to_bits
    from charlm.experiments.compare import task
    from charlm.experiments.lr_find import find_rate, plot
    from charlm.training.text_defaults import fit_to_text

    choices, corpus = read_recipe_text(choices)
    if given["base"] is None:  # as `charlm train` does
        choices, _ = fit_to_text(choices, keys, corpus)
    found = find_rate(choices, corpus, lowest, highest, n_steps)
    if file is not None:
        try:
            plot(found, file, f"{task(vars(choices))}\n{choices.model}, {n_steps} steps")
        except OSError as error:
            raise OutputError(f"{file}: cannot be written: {error.strerror}") from None
        print(f"plot: {file}", file=sys.stderr)
    rates = {"steepest": found.steepest, "valley": found.valley, "minimum_tenth": found.minimum / 10}
    if as_json:
        report = {"suggestion": found.suggestion, "n_steps": found.n_steps, **rates}
        print(json.dumps({**report, "rates": found.rates, "nats": found.nats}))
        return
    points = list(zip(found.rates, found.nats, strict=True))[:: max(1, len(found.rates) // 20)]
    print(table(["rate", "bits/char"], [[f"{rate:.1e}", f"{nats_to_bits(nats):.3f}"] for rate, nats in points]))
    print(f"\nsteepest fall {rates['steepest']:.1e}, valley {rates['valley']:.1e}, ", end="")
    print(f"minimum / 10 {rates['minimum_tenth']:.1e}")
    print(f"suggestion for {found.n_steps:,.0f} steps: --learning-rate {found.suggestion:.1e} ", end="")
    print(f"(minimum / {found.minimum / found.suggestion:.3g})")

"""`charlm models`, `charlm recipes`, `charlm info`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from charlm.cli.completion import complete_models, complete_recipes, complete_runs
from charlm.cli.options import Name, choose_checkpoint, folder_option, json_option, own_model_option
from charlm.cli.recipe_options import MODEL_FLAGS
from charlm.cli.table import table
from charlm.errors import CheckpointError, UsageError


@click.command(help="List the architectures, or show the formula and options of NAME.")
@click.argument("name", type=Name(), required=False, shell_complete=complete_models)
@json_option
def models(name: str | None, as_json: bool) -> None:
    """See the command's help."""
    from charlm.models import MODELS, find, options_of, use
    from charlm.models.base import documentation
    from charlm.models.custom import installed

    use(name or "")
    if as_json:
        print(json.dumps({n: options_of(n) for n in ([name] if name else MODELS)}))
    elif name is not None:
        print(documentation(find(name)))
        print("\nOptions:")
        for option, default in options_of(name).items():
            flag = "--" + option.replace("_", "-")
            print(f"  {flag if flag in MODEL_FLAGS else f'-o {option}='}  [default: {default}]")
    else:
        rows = [(n, documentation(cls).partition("\n")[0]) for n, cls in MODELS.items()]
        _list(rows + [(n, f"of an installed package: {point.value}") for n, point in installed().items()])


def _list(rows: list[tuple[str, str]]) -> None:
    """Print names and descriptions in two columns, as wide as the terminal."""
    formatter = click.HelpFormatter()
    formatter.write_dl(rows)
    print(formatter.getvalue(), end="")


@click.command(help="List the built-in recipes, or print the keys of NAME as TOML.")
@click.argument("name", type=Name(), required=False, shell_complete=complete_recipes)
def recipes(name: str | None) -> None:
    """See the command's help."""
    from charlm.recipes import description, load, names, to_toml

    if name is not None:
        print(to_toml(load(name)), end="")
        return
    _list([(n, description(n)) for n in names()])


@click.command(
    help="Show the contents of a checkpoint: RUN is a run or a file. "
    "[default: the newest finished run, else the built-in model]"
)
@click.argument("run", type=Name(), required=False, shell_complete=complete_runs)
@own_model_option
@folder_option
@json_option
def info(run: str | None, folder: Path, as_json: bool) -> None:
    """See the command's help."""
    from dataclasses import asdict

    from charlm.evaluation.metrics import nats_to_bits
    from charlm.storage import checkpoint
    from charlm.storage.weights import weights_of
    from charlm.training.groups import layer_groups, rate_factors
    from charlm.training.summary import coverage

    path = choose_checkpoint(run, folder)
    model, metadata = checkpoint.load(path)
    weights, recipe = weights_of(model), metadata.recipe
    try:
        rates = rate_factors(layer_groups(model), recipe["group_rates"]) if recipe["group_rates"] else {}
    except UsageError as error:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: {error}") from None
    if as_json:
        shapes = {name: list(weight.shape) for name, weight in weights.items()}
        print(json.dumps({"path": str(path), **asdict(metadata), "weights": shapes}))
        return
    unit = "bytes" if metadata.is_bytes else "characters"
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 correct")
    options = ", ".join(f"{name} {json.dumps(value)}" for name, value in metadata.options.items())
    print(f"model:      {metadata.model}")
    print(click.wrap_text(options, 80, "options:    ", " " * 12))
    print(f"parameters: {model.n_parameters:,}")
    window = f", window of {metadata.n_context}" if metadata.n_context else ""
    print(f"vocabulary: {metadata.vocab_size - 1} {unit}{window}")
    print(f"text:       {metadata.corpus['name']}, {metadata.corpus['n_chars']:,} {unit}")
    print(f"trained:    {metadata.counters.get('n_chars', 0):,} {unit}, {metadata.counters.get('epoch')} epochs")
    if "init_from" in recipe:
        print(f"begun with: {recipe['init_from']}")
    if kept := metadata.corpus.get("counts_kept"):
        texts = ", ".join(f"{text['name']} ({text['n_chars']:,} {unit})" for text in kept)
        print(f"counts:     of the text, and kept of: {texts}")
    if recipe.get("freeze"):
        print(f"frozen:     {', '.join(recipe['freeze'])}")
    if "unfreeze_epochs" in recipe:
        print(f"unfreezing: one layer group every {recipe['unfreeze_epochs']:g} epochs, from the head")
    if rates:
        print(f"rates:      {', '.join(f'{name} x{rate:g}' for name, rate in rates.items())}")
    for part in ("train", "valid", "test"):
        if f"{part}_nats" in metadata.result:
            nats = metadata.result[f"{part}_nats"]
            read = coverage(metadata.result, part)
            print(f"{part + ':':11} {nats_to_bits(nats):.4f} bits ({nats:.4f} nats) per {unit[:-1]}{read}")
    print(f"versions:   {', '.join(f'{name} {version}' for name, version in metadata.versions.items())}\n")
    print(table(["weights", "shape"], [[n, "x".join(map(str, w.shape))] for n, w in weights.items()]))

"""`charlm eval`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from charlm.cli.options import device_option, folder_option, json_option
from charlm.errors import UsageError


@click.command(
    help="Bits per character of a trained model: on the part of its own text that it has not seen, or on another text."
)
@click.argument("run", required=False)
@click.option("--corpus", multiple=True, help="Another text: name, file, folder or -. Repeatable.")
@click.option(
    "--part",
    type=click.Choice(["train", "valid", "test", "all"]),
    help="Part of the text. [default: test of its own, all of another]",
)
@folder_option
@device_option
@json_option
def evaluate(
    run: str | None, corpus: tuple[str, ...], part: str | None, folder: Path, device: str, as_json: bool
) -> None:
    """See the command's help."""
    import torch

    from charlm import library, runs
    from charlm import metrics as m
    from charlm.choices import choose_device
    from charlm.corpus import make_corpus
    from charlm.language_model import LanguageModel

    place = choose_device(device)
    path = runs.find_checkpoint(run, folder)
    model = LanguageModel.load(path, place)
    recipe, about = model.about.recipe, model.about
    own = not corpus
    sources = list(corpus) or recipe["corpus"]
    if own and "-" in sources:
        raise UsageError(f"{path}: was trained on standard input; name the text with --corpus")
    data = b"\n".join(library.read(source) for source in sources)
    text = make_corpus(
        data,
        " + ".join(sources),
        recipe["split"] if own else "standard",
        about.is_bytes,
        recipe["lower"],
        vocab=model.vocab,
        min_chars=1,
    )
    if own and text.sha256 != about.corpus["sha256"]:
        print(f"charlm: {text.name} is not the text it was trained on (another SHA-256)", file=sys.stderr)
    part = part or ("test" if own else "all")
    first, stop = (0, len(text.codes)) if part == "all" else text.bounds[part]
    if first == stop and part == "test":
        part = "valid"
        first, stop = text.bounds[part]
    if first == stop:
        raise UsageError(
            f"{path}: split {recipe['split']} has no part that it has not seen; name a --corpus or --part train"
        )
    codes = torch.from_numpy(text.codes).to(place)
    score = m.evaluate(model.model, codes, first, stop, about.n_context, start=model.vocab.start)
    n_unknown = int((text.codes[first:stop] == 0).sum())
    report = {
        "model": str(path),
        "corpus": text.name,
        "part": part,
        "n_chars": score.n_chars,
        "n_unknown": n_unknown,
        "nats_per_char": score.nats_per_char,
        "bits_per_char": score.bits_per_char,
    }
    if as_json:
        print(json.dumps(report))
        return
    unit = "byte" if about.is_bytes else "character"
    print(f"{score.bits_per_char:.4f} bits ({score.nats_per_char:.4f} nats) per {unit}")
    unknown = f", {n_unknown} of them unknown to the model" if n_unknown else ""
    print(f"{path} on {text.name}, {part}: {score.n_chars:,} {unit}s{unknown}", file=sys.stderr)

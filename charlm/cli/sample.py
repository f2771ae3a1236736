"""`charlm sample`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlm.cli.options import device_option, folder_option, json_option
from charlm.cli.own_text import check_learning, dynamic_steps, learning_options, mixture_weights
from charlm.errors import DataError, InputNotFoundError, UsageError

if TYPE_CHECKING:
    from charlm.generation.generator import TextGenerator


MAX_PRIME = 1 << 24  # bytes
SECONDS_UNSEEN = 0.02  # for so long what was written may wait to be shown


def _read_prime(path: str) -> str:
    """Return the text of a file, or of standard input for "-"."""
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            data = file.read(MAX_PRIME + 1)
        if len(data) > MAX_PRIME:
            raise DataError(f"{path}: longer than {MAX_PRIME:,} bytes; the end of it will do")
        return data.decode("utf-8")
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at offset {error.start}") from None


def _print(pieces: Iterable[str]) -> None:
    """Print a text as it comes, and a line break; printing each character would take longer than drawing it."""
    held, shown = "", 0.0
    for piece in pieces:
        held += piece
        if (now := time.perf_counter()) - shown > SECONDS_UNSEEN:
            print(held, end="", flush=True)
            held, shown = "", now
    print(held, flush=True)


@click.command(
    help="Write on from --prime with a trained model: RUN in the folder of runs, or a checkpoint file. "
    "Several write as one, a mixture. With --dynamic they first learn from the prime."
)
@click.argument("run", nargs=-1)
@click.option("--prime", default="", help="What was written so far.")
@click.option("--prime-file", help="The same from a file; - is standard input.")
@click.option("--length", type=click.IntRange(0), default=500, show_default=True, help="Characters to draw.")
@click.option("--temperature", default=0.8, show_default=True, help="Below 1 plays safe; 0 is greedy.")
@click.option("--top-k", type=int, help="Draw from the k most probable.")
@click.option("--top-p", type=float, help="Draw from the fewest with this probability together.")
@click.option("--min-p", type=float, help="Draw from those at least this share as probable as the best.")
@click.option("--seed", type=click.IntRange(0), help="Seed; the same seed writes the same text.")
@click.option("--num", type=click.IntRange(1), default=1, show_default=True, help="Texts to write.")
@click.option("--stop", help="End before this text would appear.")
@click.option(
    "--unknown",
    type=click.Choice(["error", "skip", "map"]),
    default="error",
    show_default=True,
    help="Characters in the prime that the model has never seen.",
)
@learning_options
@folder_option
@device_option
@json_option
def sample(
    run: tuple[str, ...],
    prime: str,
    prime_file: str | None,
    num: int,
    seed: int | None,
    weights: str | None,
    dynamic: str | None,
    rate: float | None,
    decay: float | None,
    piece: int | None,
    folder: Path,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """See the command's help."""
    check_learning(len(run), dynamic, weights=weights, rate=rate, decay=decay, piece=piece)
    if prime_file is not None:
        prime += _read_prime(prime_file)
    if dynamic is not None and not prime:
        raise UsageError("--dynamic learns from the prime; give --prime or --prime-file")

    from charlm.generation import generator
    from charlm.storage import runs

    paths = [runs.find_checkpoint(name, folder) for name in run or (None,)]
    is_plain = len(paths) == 1 and dynamic is None and device in ("auto", "cpu")
    model: TextGenerator | None = generator.load(paths[0]) if is_plain else None
    if model is None:
        import torch

        from charlm.generation.language_model import LanguageModel
        from charlm.training.setup import choose_device

        place = choose_device(device)
        models = [LanguageModel.load(path, place) for path in paths]
        mixed = mixture_weights(models, paths, place, weights) if len(models) > 1 else []
        if dynamic is not None:
            from charlm.evaluation.dynamic import adapt

            for network, path in zip(models, paths, strict=True):
                ids = torch.from_numpy(network.vocab.encode(network.prepare(prime, options["unknown"]))).to(place)
                steps = dynamic_steps(network, path, place, dynamic, rate, decay, piece, pick=False)
                adapt(network.model, ids, steps, network.metadata.n_context, network.vocab.bos_id)
        model = models[0]
        if mixed:
            from charlm.generation.mixture import mix

            model = mix(models, mixed)
    for i, texts in enumerate(model.generate_many(num, prime, seed=seed, **options)):
        if as_json:
            print(json.dumps({"prime": prime, "text": "".join(texts)}, ensure_ascii=False), flush=True)
            continue
        if i > 0:
            print("-" * 20)
        print(prime, end="", flush=True)
        _print(texts)

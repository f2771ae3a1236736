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

from charlm.cli.completion import complete_runs
from charlm.cli.model_options import dynamic_options, model_use_options
from charlm.cli.options import device_option, folder_option, json_option, say
from charlm.errors import DataError, InputNotFoundError, UsageError
from charlm.generation.sampler import CACHE_MODELS, DEFAULT_LENGTH, DEFAULT_TEMPERATURE

if TYPE_CHECKING:
    from charlm.generation.generator import TextGenerator

MAX_PROMPT_BYTES = 1 << 24
FLUSH_SECONDS = 0.02  # printing each character on its own would take longer than sampling it


@click.command(
    help="Sample text from a trained model: RUN is a run or a checkpoint file. Several models are sampled as a "
    "mixture. With --dynamic the weights are first updated on the prompt."
)
@click.argument("run", nargs=-1, shell_complete=complete_runs)
@click.option("--prime", default="", help="Prompt: the text to continue.")
@click.option("--prime-file", help="Prompt from a file, after that of --prime; - is standard input.")
@click.option("--length", type=click.IntRange(0), default=DEFAULT_LENGTH, show_default=True, help="Characters.")
@click.option(
    "--temperature", default=DEFAULT_TEMPERATURE, show_default=True, help="Softmax temperature; 0 is greedy sampling."
)
@click.option("--top-k", type=int, help="Sample from the k most probable characters.")
@click.option("--top-p", type=float, help="Nucleus sampling: from the fewest characters with this total probability.")
@click.option("--min-p", type=float, help="Sample from characters with at least this fraction of the top probability.")
@click.option(
    "--cache-model",
    type=click.Choice(CACHE_MODELS),
    default="prompt",
    show_default=True,
    help="Text that cache models (of lstm-ngram) read: the prompt alone, also the sampled text, or none.",
)
@click.option("--seed", type=click.IntRange(0), help="Random seed; the same seed gives the same text.")
@click.option("--num", type=click.IntRange(1), default=1, show_default=True, help="Number of texts.")
@click.option("--stop", help="End the text before this string.")
@click.option(
    "--unknown",
    type=click.Choice(["error", "skip", "map"]),
    default="error",
    show_default=True,
    help="Treatment of prompt characters that are not in the model's vocabulary.",
)
@model_use_options
@folder_option
@device_option
@json_option
def sample(
    run: tuple[str, ...],
    prime: str,
    prime_file: str | None,
    num: int,
    seed: int | None,
    weights: list[float] | None,
    dynamic: str | None,
    rate: float | None,
    decay: float | None,
    segment_len: int | None,
    folder: Path,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """See the command's help."""
    dynamic_steps = dynamic_options(len(run), weights, dynamic, rate, decay, segment_len)
    prompt = prime if prime_file is None else prime + _read_prompt(prime_file)
    if dynamic_steps is not None and not prompt:
        raise UsageError("--dynamic updates the weights on the prompt; give --prime or --prime-file")

    from charlm.generation import generator
    from charlm.storage import runs

    paths = [runs.find_checkpoint(name, folder) for name in run or (None,)]
    model: TextGenerator | None = None
    if len(paths) == 1 and dynamic_steps is None and device in ("auto", "cpu"):
        model = generator.load_numpy(paths[0], num)  # None if the model has no numpy engine
    if model is None:
        from charlm.experiments.trained_models import TrainedModel, make_generator
        from charlm.training.setup import choose_device

        target = choose_device(device)
        models = [TrainedModel.load(path, target) for path in paths]
        model = make_generator(models, weights, dynamic_steps, prompt, options["unknown"], say)
    for i, text in enumerate(model.generate_many(num, prompt, seed=seed, **options)):
        if as_json:
            print(json.dumps({"prime": prompt, "text": "".join(text)}, ensure_ascii=False), flush=True)
            continue
        if i > 0:
            print("-" * 20)
        print(prompt, end="", flush=True)
        _print(text)


def _read_prompt(path: str) -> str:
    """Return the text of a file, or of standard input for "-"."""
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            data = file.read(MAX_PROMPT_BYTES + 1)
        if len(data) > MAX_PROMPT_BYTES:
            raise DataError(f"{path}: longer than {MAX_PROMPT_BYTES:,} bytes; give the end of it")
        return data.decode("utf-8")
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at offset {error.start}") from None


def _print(text: Iterable[str]) -> None:
    """Print characters as they are sampled, and a line break at the end."""
    buffer, flushed = "", 0.0
    for char in text:
        buffer += char
        if (now := time.perf_counter()) - flushed > FLUSH_SECONDS:
            print(buffer, end="", flush=True)
            buffer, flushed = "", now
    print(buffer, flush=True)

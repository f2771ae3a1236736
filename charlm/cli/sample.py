"""`charlm sample`."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlm.cli.completion import complete_runs
from charlm.cli.model_options import METHODS, dynamic_options, model_use_options
from charlm.cli.options import (
    Name,
    Number,
    choose_checkpoint,
    device_option,
    folder_option,
    json_option,
    own_model_option,
    unknown_option,
)
from charlm.errors import DataError, InputNotFoundError, UsageError
from charlm.generation import defaults
from charlm.messages import say

if TYPE_CHECKING:
    from charlm.generation.generator import TextGenerator

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_ESCAPE = re.compile(r"\\([ntr\\])")
MAX_PROMPT_BYTES = 1 << 24
FLUSH_SECONDS = 0.02  # printing each character on its own would take longer than sampling it


@click.command(
    help="Sample text from a trained model: RUN is a run or a checkpoint file. [default: the newest finished run, else "
    "the built-in model] Several models are sampled as a mixture. With --dynamic the weights are first updated on the "
    "prompt."
)
@click.argument("run", nargs=-1, type=Name(), shell_complete=complete_runs)
@click.option("--prime", default="", help="Prompt: the text to continue.")
@click.option("--prime-file", type=Name(), help="Prompt from a file, after that of --prime; - is standard input.")
@click.option("--length", type=Number("length"), default=defaults.LENGTH, show_default=True, help="Characters.")
@click.option(
    "--temperature",
    type=Number("temperature"),
    default=defaults.TEMPERATURE,
    show_default=True,
    help="Softmax temperature; 0 is greedy sampling.",
)
@click.option("--top-k", type=Number("top_k"), help="Sample from the k most probable characters.")
@click.option(
    "--top-p", type=Number("top_p"), help="Nucleus sampling: from the fewest characters with this total probability."
)
@click.option(
    "--min-p", type=Number("min_p"), help="Sample from characters with at least this fraction of the top probability."
)
@click.option(
    "--cache-model",
    type=click.Choice(defaults.CACHE_MODELS),
    default="prompt",
    show_default=True,
    help="Text that cache models (of lstm-ngram) read: the prompt alone, also the sampled text, or none.",
)
@click.option("--seed", type=Number("seed"), help="Random seed; the same seed gives the same text.")
@click.option("--num", type=Number("n_texts"), default=1, show_default=True, help="Number of texts.")
@click.option("--stop", multiple=True, help=r"End the text before this string; \n is a line break. Repeatable.")
@click.option("--lines", type=Number("lines"), help="Sample this many different items of a text with one item a line.")
@click.option("--new", is_flag=True, help="With --lines: leave out the lines of the training text.")
@click.option("--copies", is_flag=True, help="Report how much of the sample is copied from the training text.")
@unknown_option
@model_use_options(METHODS, "0.03 for sgd, 0.0001 for rms", "0.01")
@own_model_option
@folder_option
@device_option
@json_option
def sample(
    run: tuple[str, ...],
    prime: str,
    prime_file: str | None,
    num: int,
    seed: int | None,
    length: int,
    stop: tuple[str, ...],
    lines: int | None,
    new: bool,
    copies: bool,
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
    if new and lines is None:
        raise UsageError("--new needs --lines; it leaves out the lines of the training text")
    if lines is not None and (num > 1 or stop or as_json):
        raise UsageError("--lines prints one item a line; leave out --num, --stop and --json")
    prompt = prime if prime_file is None else prime + _read_prompt(prime_file)
    if dynamic_steps is not None and not prompt:
        raise UsageError("--dynamic updates the weights on the prompt; give --prime or --prime-file")

    from charlm.generation.numpy_generator import load_numpy

    paths = [choose_checkpoint(name, folder) for name in run or (None,)]
    model: TextGenerator | None = None
    if len(paths) == 1 and dynamic_steps is None and device in ("auto", "cpu"):
        model = load_numpy(paths[0], num)  # None if the model has no numpy engine
    if model is None:
        from charlm.experiments.trained_models import TrainedModel, make_generator
        from charlm.training.setup import choose_device

        target = choose_device(device)
        models = [TrainedModel.load(path, target) for path in paths]
        model = make_generator(models, weights, dynamic_steps, prompt, options["unknown"], say)
    corpus = None
    if new or copies:
        from charlm.generation.training_text import training_text

        corpus = training_text(model.metadata, "--new" if new else "--copies")
    texts = []
    if lines is not None:
        from charlm.generation.items import sample_items, training_items

        known = training_items(corpus) if new and corpus else ()
        texts = sample_items(model, lines, prompt, known=known, seed=seed, **options)
        print("\n".join(texts))
    else:
        stops = [_ESCAPE.sub(lambda found: _ESCAPES[found[1]], text) for text in stop]
        for text in stops:
            if cannot := model.vocab.unknown(text):
                say(f"--stop {text!r} ends no text: {cannot[0]!r} is not in the model's vocabulary")
        for i, pieces in enumerate(model.generate_many(num, prompt, length, seed=seed, stop=stops, **options)):
            if as_json:
                texts.append("".join(pieces))
                print(json.dumps({"prime": prompt, "text": texts[-1]}), flush=True)
                continue
            if i > 0:
                print("-" * 20)
            print(prompt, end="", flush=True)
            texts.append(_print(pieces))
    if copies and corpus:
        from charlm.generation.copies import report_copies

        say(report_copies(texts, corpus))


def _read_prompt(path: str) -> str:
    """Return the text of a file, or of standard input for "-"."""
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            data = file.read(MAX_PROMPT_BYTES + 1)
        if len(data) > MAX_PROMPT_BYTES:
            raise DataError(f"{path}: longer than {MAX_PROMPT_BYTES:,} bytes; give the end of it")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at offset {error.start}") from None


def _print(text: Iterable[str]) -> str:
    """Print characters as they are sampled, and a line break at the end; return the text."""
    buffer, flushed, printed = "", 0.0, []
    for char in text:
        printed.append(char)
        buffer += char
        if (now := time.perf_counter()) - flushed > FLUSH_SECONDS:
            print(buffer, end="", flush=True)
            buffer, flushed = "", now
    print(buffer, flush=True)
    return "".join(printed)

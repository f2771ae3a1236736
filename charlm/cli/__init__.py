"""Command line. Each command's file is imported when the command is called, and torch only when it computes.

Read first: train.py.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click
from click.shell_completion import CompletionItem, shell_complete

from charlm.cli.streams import standard_streams
from charlm.errors import CharlmError, Interrupted, UsageError, did_you_mean
from charlm.messages import say
from charlm.version import __version__

COMPLETE = "_CHARLM_COMPLETE"  # environment variable by which a shell asks for completions
PRINT_SAMPLES = {"sample", "train"}  # commands whose text goes to a file or pipe as it is
MAX_LINE = 800  # characters of an error
TERMINATING = ("SIGTERM", "SIGHUP")  # the second when a terminal is closed

COMMANDS = {  # name: (module:function, description)
    "train": ("train:train", "Train a model on a text."),
    "sample": ("sample:sample", "Sample text from a trained model."),
    "eval": ("evaluate:evaluate", "Bits per character of a trained model on a text."),
    "next": ("next:next_char", "The most probable next characters after a prompt."),
    "score": ("score:score", "Bits of each character of a text; the surprising places."),
    "inspect": ("inspect:inspect", "What a trained model has learned: units, saliency, gradient flow; a page."),
    "bench": ("bench:bench", "Benchmark: train several models on one text with one budget; table and plot."),
    "compare": ("compare:compare", "Table of the runs."),
    "plot": ("plot:plot", "Plot the curves of the runs, or an embedding."),
    "lesson": ("lesson:lesson", "Train all models of the lesson, from three characters to the LSTM."),
    "lr-find": ("lr_find:lr_find", "Learning-rate range test."),
    "models": ("info:models", "The architectures and their options."),
    "corpora": ("corpora:corpora", "The named texts; add one."),
    "recipes": ("info:recipes", "The built-in recipes."),
    "info": ("info:info", "Contents of a checkpoint."),
    "compress": ("compress:compress", "Compress a file, losslessly, by the probabilities of a model."),
    "decompress": ("compress:decompress", "Restore a compressed file."),
    "serve": ("serve:serve", "Serve models over HTTP, by OpenAI's completions protocol; a page."),
    "export": ("export:export", "Copy a checkpoint, or write a page, an ONNX file, a folder for hubs."),
}


class _LazyGroup(click.Group):
    """Command group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name != "train" and "WORLD_SIZE" in os.environ:
            from charlm.training.launch import under_torchrun

            if under_torchrun():
                raise UsageError(f"`charlm {cmd_name}` runs in a single process; start it without torchrun")
        module, function = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(f"charlm.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            raise click.UsageError(f"no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [(name, about) for name, (_, about) in COMMANDS.items() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=about) for name, about in found]  # no command is imported for its help
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, description) for name, (_, description) in COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="With any command, --debug shows the traceback of an error. Exit codes: 0 done, 1 failed, 2 usage, "
    "65 bad data, 66 no such input, 74 cannot write, 130 interrupted, 143 terminated.",
)
@click.version_option(__version__, prog_name="charlm")
def cli() -> None:
    """Character-level language models: train, compare, sample, evaluate.

    \b
    charlm sample --prime "supposing"          continue a prompt, with the built-in model
    charlm train                               train on the Nietzsche text
    charlm train --corpus my.txt --model gru   train on your own text
    charlm compare                             table of the runs
    """  # noqa: D301  \b keeps click from re-wrapping the lines


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise `Interrupted` on a terminating signal, so that a command cleans up as after Ctrl-C.

    A signal that is ignored, as by `nohup`, stays ignored.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.SIGTERM)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in TERMINATING if is_main and hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number in numbers if before[number] is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def _fail(message: str, code: int) -> NoReturn:
    if os.environ.get("RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(2)  # if rank 0 fails with the same error, torchrun ends this process before it repeats it
    line = " ".join(message.split())
    if len(line) > MAX_LINE:  # a value that was given is echoed
        line = f"{line[: MAX_LINE // 2]} ... {line[-MAX_LINE // 2 :]}"
    say(line)
    raise SystemExit(code)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; an error is one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with standard_streams(raw=not PRINT_SAMPLES.isdisjoint(given[:1])):
        if instruction := os.environ.get(COMPLETE):
            raise SystemExit(shell_complete(cli, {}, "charlm", COMPLETE, instruction))
        _run([argument for argument in given if argument != "--debug"], debug="--debug" in given)
    raise SystemExit(0)


def _run(arguments: list[str], debug: bool) -> None:
    try:
        with _terminable(), cli.make_context("charlm", arguments) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        raise SystemExit(error.exit_code) from None
    except Interrupted as error:
        _fail("interrupted" if error.number == signal.SIGINT else "terminated", 128 + error.number)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        raise SystemExit(2) from None
    except click.UsageError as error:
        if debug:
            raise
        command = error.ctx.command_path if error.ctx else " ".join(["charlm", *COMMANDS.keys() & arguments[:1]])
        _fail(f"{error.format_message().rstrip('.')}; see `{command} --help`", error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except CharlmError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror}; --debug shows the traceback", 74)
    except Exception as error:
        if debug:
            raise
        _fail(f"{type(error).__name__}: {error}; --debug shows the traceback", 1)

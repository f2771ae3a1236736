"""Callbacks that report measured values: progress bar, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from tqdm import tqdm

from charlm.data.vocab import Vocab
from charlm.evaluation.metrics import nats_to_bits
from charlm.files import atomic_write
from charlm.messages import no_bars
from charlm.recipe import Recipe
from charlm.recipes import differences, to_toml
from charlm.storage.run_log import parse_line
from charlm.training.loop import Callback, TrainState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SMOOTH = 0.5  # weight of the previous value in the smoothed training loss of the progress bar


class Progress(Callback):
    """Progress on stderr: a bar on a terminal, one line per epoch elsewhere.

    Args:
        show_samples: print the samples as well.
    """

    def __init__(self, show_samples: bool = False) -> None:
        self.show_samples = show_samples
        self._train = self._valid = self._speed = 0.0

    def on_fit_start(self, state: TrainState) -> None:
        """Open the bar."""
        bar = "training {percentage:3.0f}%|{bar}| {remaining} left, {desc}"
        self._bar = tqdm(total=1.0, bar_format=bar, disable=no_bars(), dynamic_ncols=True, leave=False)
        self._bar.set_description_str("starting")

    def on_batch_end(self, state: TrainState) -> None:
        """Update the bar when there are new values."""
        self._note(state)
        if "train_nats" in state.logs:
            self._bar.set_description_str(self._short_summary(state), refresh=False)
            self._bar.update(state.progress - self._bar.n)

    def on_epoch_end(self, state: TrainState) -> None:
        """Report the epoch, unless a signal stopped it before its end was validated."""
        self._note(state)
        if state.interrupted and "valid_nats" not in state.logs:
            return
        if self._bar.disable:
            print(self._summary(state), file=sys.stderr, flush=True)
        else:
            self._bar.write(self._summary(state), file=sys.stderr)
        if "sample" in state.logs and self.show_samples and not (self._bar.disable or state.ended):
            self._bar.write(f"{state.logs['sample']}\n", file=sys.stderr)  # that of the end is printed by the caller

    def on_fit_end(self, state: TrainState) -> None:
        """Close the bar."""
        self._bar.close()

    def _note(self, state: TrainState) -> None:
        self._valid = state.logs.get("valid_nats", self._valid)
        if "train_nats" in state.logs:
            new = state.logs["train_nats"]
            self._train = SMOOTH * self._train + (1 - SMOOTH) * new if self._train else new
            self._speed = state.logs["chars_per_second"]

    def _summary(self, state: TrainState) -> str:
        measured = f"{self._short_summary(state)} bits/char" if self._train or self._valid else f"epoch {state.n_begun}"
        return f"{measured}, {self._speed:,.0f} chars/s" if self._train else measured  # else a model that only counts

    def _short_summary(self, state: TrainState) -> str:
        """Return the epoch and the losses in bits; ~ marks a validation in parallel lanes, which is nearly exact."""
        total = f"/{state.n_epochs}" if state.n_epochs != float("inf") else ""
        train = f" train {nats_to_bits(self._train):.3f}" if self._train else ""
        valid = f" valid ~{nats_to_bits(self._valid):.3f}" if self._valid else ""
        return f"epoch {state.n_begun}{total}:{train}{valid}"


class JSONLinesLogger(Callback):
    """Append measured values to a JSON Lines file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, state: TrainState) -> None:
        """Open the file; when resuming, remove the lines that will be measured again."""
        if state.step > 0:
            lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
            atomic_write(self.path, b"".join(line for line in lines if _is_before(line, state.step)))
        self._file = self.path.open("a", encoding="ascii")

    def on_batch_end(self, state: TrainState) -> None:
        """Write a line if there are new values."""
        if state.logs.keys() & {"train_nats", "valid_nats"}:
            position = {
                "epoch": state.epoch,
                "step": state.step,
                "n_chars": state.n_chars,
                "seconds": round(state.timer.seconds, 3),
            }
            self._file.write(json.dumps(position | state.logs) + "\n")
            self._file.flush()

    on_epoch_end = on_batch_end

    def on_fit_end(self, state: TrainState) -> None:
        """Close the file."""
        self._file.close()


def _is_before(line: bytes, step: int) -> bool:
    """Return whether a line was written up to a step; False for a result and for a damaged line."""
    return bool(parse_line(line).get("step", step + 1) <= step)


class TensorBoard(Callback):
    """TensorBoard events: the same tags for every model, x axis in characters predicted.

    Args:
        folder: of the run.
        recipe: of the run; its keys are the hyper-parameters.
        defaults: recipe of the same model without any choice; the recipe's text begins with the differences from it.
        vocab: labels of the embedding's rows in the projector.
    """

    def __init__(self, folder: Path, recipe: Recipe, defaults: Recipe, vocab: Vocab) -> None:
        self.folder, self.recipe, self.defaults, self.vocab = folder, recipe, defaults, vocab

    def on_fit_start(self, state: TrainState) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(self.folder), purge_step=state.n_chars + 1 if state.step > 0 else None)
        changed, whole = _preformatted(differences(self.recipe, self.defaults)), _preformatted(to_toml(self.recipe))
        text = f"Other than the defaults:\n\n{changed}\n\nThe whole recipe:\n\n{whole}"
        self._writer.add_text("recipe", text, state.n_chars)
        if state.step == 0:
            _write_hyperparameters(self._writer, self.recipe)

    def on_batch_end(self, state: TrainState) -> None:
        """Write new scalars."""
        for part in ("train", "valid"):
            if (nats := state.logs.get(f"{part}_nats")) is not None:
                self._writer.add_scalar(f"bits_per_char/{part}", nats_to_bits(nats), state.n_chars)
                self._writer.add_scalar(f"nats_per_char/{part}", nats, state.n_chars)
        for name in state.metrics:
            if f"train_{name}" in state.logs:
                self._writer.add_scalar(f"{name}/train", state.logs[f"train_{name}"], state.n_chars)
        for name in ("learning_rate", "chars_per_second"):
            if name in state.logs:
                self._writer.add_scalar(f"training/{name}", state.logs[name], state.n_chars)
        if "train_nats" in state.logs and "gradient_norm" in state.logs:
            self._writer.add_scalar("training/gradient_norm", state.logs["gradient_norm"], state.n_chars)

    def on_epoch_end(self, state: TrainState) -> None:
        """Write new scalars and the sample."""
        self.on_batch_end(state)
        for lag, norm in state.logs.get("gradient_flow", {}).items():
            self._writer.add_scalar(f"gradient_flow/lag_{lag}", norm, state.n_chars)
        if "sample" in state.logs:
            self._writer.add_text("sample", _preformatted(state.logs["sample"]), state.n_chars)
        self._writer.flush()

    def on_fit_end(self, state: TrainState) -> None:
        """Write the embedding, if the model has one of the vocabulary, and close the file."""
        embed = getattr(state.model, "embed", None)
        labels = ["(unknown)", *map(self._label, self.vocab.codepoints.tolist())]
        if isinstance(embed, nn.Embedding) and embed.num_embeddings == len(labels):
            weight = embed.weight.detach().float().cpu()
            with redirect_stdout(None):  # PyTorch prints a warning if the folder exists: resumed without a step
                self._writer.add_embedding(weight, labels, global_step=state.n_chars, tag="embedding")
        self._writer.close()

    def _label(self, point: int) -> str:
        """Return the label of a symbol: printable ones unchanged, others escaped, bytes beyond ASCII in hexadecimal."""
        if self.vocab.is_bytes and point > 127:
            return f"0x{point:02x}"
        return "(space)" if point == ord(" ") else repr(chr(point))[1:-1]


def _preformatted(text: str) -> str:
    """Return Markdown that shows a text as it is."""
    return "\n".join("    " + line for line in text.splitlines())


def _write_hyperparameters(writer: SummaryWriter, recipe: Recipe) -> None:
    """Write the keys of a recipe for the HPARAMS tab.

    `SummaryWriter.add_hparams` would do that in a run of its own. The summary of the whole experiment is left out:
    without it, TensorBoard collects hyper-parameters and metrics from all runs.
    """
    from torch.utils.tensorboard.summary import hparams

    values = recipe.to_dict()
    values |= {f"options.{name}": value for name, value in values.pop("options").items()}
    plain = {name: v if isinstance(v, (bool, int, float)) else _plain(v) for name, v in values.items()}
    _, start, _ = hparams(plain, {})  # type: ignore[no-untyped-call]
    file: Any = writer.file_writer
    file.add_summary(start)


def _plain(value: str | list[Any]) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def write_final_scores(folder: Path, result: Mapping[str, Any]) -> None:
    """Add the bits per character of a finished run to its TensorBoard events: metrics for the HPARAMS tab.

    Args:
        folder: of the run.
        result: of the run, with the losses of the parts that were scored.

    Raises:
        OSError: the file cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for part in ("train", "valid", "test"):
            if (nats := result.get(f"{part}_nats")) is not None:
                writer.add_scalar(f"final_bits_per_char/{part}", nats_to_bits(nats), result["n_chars"])

"""Callbacks that show what others measured: progress bar, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tqdm import tqdm

from charlm.data.vocab import Vocab
from charlm.evaluation.metrics import nats_to_bits
from charlm.files import atomic_write
from charlm.training.loop import Callback, TrainState

SMOOTH = 0.5  # weight of the past in the training loss that the progress bar shows


class Progress(Callback):
    """Show on stderr: a bar on a terminal, a line an epoch elsewhere.

    Args:
        show_samples: print the samples, too.
    """

    def __init__(self, show_samples: bool = False) -> None:
        self.show_samples = show_samples
        self._train = self._valid = self._speed = 0.0

    def on_fit_start(self, run: TrainState) -> None:
        """Open the bar."""
        bar = "{desc} {percentage:3.0f}%|{bar}| {remaining} left"
        self._bar = tqdm(total=1.0, bar_format=bar, disable=None, dynamic_ncols=True, leave=False)
        self._bar.set_description_str("the first steps")

    def on_batch_end(self, run: TrainState) -> None:
        """Move the bar on when something was measured."""
        self._note(run)
        if "train_nats" in run.logs:
            self._bar.set_description_str(self._state(run, run.epoch + 1), refresh=False)
            self._bar.update(run.progress - self._bar.n)

    def on_epoch_end(self, run: TrainState) -> None:
        """Say how the epoch went."""
        self._note(run)
        self._valid = run.logs.get("valid_nats", self._valid)
        if self._bar.disable:
            print(self._state(run, run.epoch), file=sys.stderr, flush=True)
        elif "sample" in run.logs and self.show_samples:
            self._bar.write(f"{self._state(run, run.epoch)}\n{run.logs['sample']}\n", file=sys.stderr)

    def on_fit_end(self, run: TrainState) -> None:
        """Close the bar."""
        self._bar.close()

    def _note(self, run: TrainState) -> None:
        if "train_nats" in run.logs:
            new = run.logs["train_nats"]
            self._train = SMOOTH * self._train + (1 - SMOOTH) * new if self._train else new
            self._speed = run.logs["chars_per_second"]

    def _state(self, run: TrainState, epoch: int) -> str:
        of = f"/{run.n_epochs}" if run.n_epochs != float("inf") else ""
        train = f" train {nats_to_bits(self._train):.3f}" if self._train else ""
        valid = f" valid {nats_to_bits(self._valid):.3f}" if self._valid else ""
        if not train:  # the model counts
            return f"epoch {epoch}{of}" + (f"{valid} bits/char" if valid else "")
        return f"epoch {epoch}{of}{train}{valid} bits/char, {self._speed:,.0f}/s"


class JSONLinesLogger(Callback):
    """Append what was measured to a file of JSON lines.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, run: TrainState) -> None:
        """Open the file; of a resumed training, forget what will be measured again."""
        if run.step > 0:
            lines = self.path.read_text("utf-8").splitlines(keepends=True)
            atomic_write(self.path, "".join(line for line in lines if _is_before(line, run.step)).encode())
        self._file = self.path.open("a", encoding="utf-8")

    def on_batch_end(self, run: TrainState) -> None:
        """Write what there is."""
        if run.logs.keys() & {"train_nats", "valid_nats"}:
            place = {
                "epoch": run.epoch,
                "step": run.step,
                "n_chars": run.n_chars,
                "seconds": round(run.seconds, 3),
            }
            self._file.write(json.dumps(place | run.logs, ensure_ascii=False) + "\n")
            self._file.flush()

    on_epoch_end = on_batch_end

    def on_fit_end(self, run: TrainState) -> None:
        """Close the file."""
        self._file.close()


def _is_before(line: str, step: int) -> bool:
    """Return whether a line was written up to a step; a result, or a line that was cut off, was not."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError):
        return False


class TensorBoard(Callback):
    """Write TensorBoard events, the same tags for every model, over characters predicted.

    Args:
        folder: where the events go; one folder a run.
        recipe: the recipe as text.
        vocab: names the rows of the embedding in the projector.
    """

    def __init__(self, folder: Path, recipe: str, vocab: Vocab) -> None:
        self.folder, self.recipe, self.vocab = folder, recipe, vocab

    def on_fit_start(self, run: TrainState) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(self.folder), purge_step=run.n_chars + 1 if run.step > 0 else None)
        code = "\n".join("    " + line for line in self.recipe.splitlines())  # Markdown for "as it is"
        self._writer.add_text("recipe", code, run.n_chars)

    def on_batch_end(self, run: TrainState) -> None:
        """Write the scalars that there are."""
        for name, tag in (("train_nats", "bits_per_char/train"), ("valid_nats", "bits_per_char/valid")):
            if name in run.logs:
                self._writer.add_scalar(tag, nats_to_bits(run.logs[name]), run.n_chars)
        for name in ("learning_rate", "chars_per_second"):
            if name in run.logs:
                self._writer.add_scalar(f"training/{name}", run.logs[name], run.n_chars)
        if "train_nats" in run.logs and "gradient_norm" in run.logs:
            self._writer.add_scalar("training/gradient_norm", run.logs["gradient_norm"], run.n_chars)

    def on_epoch_end(self, run: TrainState) -> None:
        """Write scalars and sample."""
        self.on_batch_end(run)
        if "sample" in run.logs:
            code = "\n".join("    " + line for line in run.logs["sample"].splitlines())
            self._writer.add_text("sample", code, run.n_chars)
        self._writer.flush()

    def on_fit_end(self, run: TrainState) -> None:
        """Write the embedding, where there is one, and close the file."""
        if hasattr(run.model, "embed"):
            labels = ["(unknown)", *map(self._label, self.vocab.codepoints.tolist())]
            weight = run.model.embed.weight.detach().float().cpu()
            self._writer.add_embedding(weight, labels, global_step=run.n_chars, tag="embedding")
        self._writer.close()

    def _label(self, point: int) -> str:
        """Return a symbol's name: printable as it is, otherwise escaped; bytes beyond ASCII as hexadecimal."""
        if self.vocab.is_bytes and point > 127:
            return f"0x{point:02x}"
        return "(space)" if point == ord(" ") else repr(chr(point))[1:-1]

"""Recipe: all the choices of a run, from a TOML file and from the command line.

The fields below are at once the keys of a TOML file and the options of `charlm train`; what a model's constructor
takes stands in the file's `[options]` table. Nothing here imports torch, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from charlm.errors import DataError, InputNotFoundError, UsageError, did_you_mean

FEEDS = ("windows", "chunks", "stream")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "steps", "cosine", "restarts", "one-cycle")
SPLITS = ("standard", "tail20", "nanogpt", "random20", "all")
DEVICES = ("auto", "cpu", "cuda", "mps")
MAX_CONTEXT = 1 << 20  # characters in a window
MAX_FILE = 1 << 20  # characters of a recipe
DEFAULT = "quick"  # the recipe of those who name neither a recipe nor a model


def _key(default: Any, help: str, choices: tuple[str, ...] = (), minimum: float | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "least": minimum})


@dataclass(frozen=True)
class Recipe:
    """The choices of a run. Each field's help says what it means and in which unit.

    Raises:
        UsageError: a value out of its range.
    """

    model: str = _key("gru", "Architecture; `charlm models` lists them.")
    options: dict[str, Any] = field(default_factory=dict)

    corpus: tuple[str, ...] = _key(
        (), "Text: a name of `charlm corpora`, a file, a folder of .txt files, or - for standard input."
    )
    split: str = _key("standard", "How the text is divided into training, validation and test.", SPLITS)
    bytes: bool = _key(False, "Predict bytes instead of characters.")
    lower: bool = _key(False, "Turn the text into lower case.")
    min_count: int = _key(1, "Characters seen fewer times are unknown.", minimum=1)

    feed: str | None = _key(None, "In which order the text is read; by default what suits the model.", FEEDS)
    n_context: int = _key(8, "Characters in a window (windows).", minimum=1)
    stride: int = _key(1, "Characters from one window to the next (windows).", minimum=1)
    bptt: int = _key(64, "Characters a sequence (chunks, stream).", minimum=1)
    batch_size: int | None = _key(None, "Sequences in a batch; by default 512 for windows, 32 otherwise.", minimum=1)

    optimizer: str = _key("adam", "Optimiser from torch.optim.", OPTIMIZERS)
    learning_rate: float | None = _key(None, "Peak learning rate; by default what suits the model.", minimum=0)
    momentum: float = _key(0.9, "Momentum (sgd, rmsprop); one-cycle moves that of sgd unless it is 0.", minimum=0)
    weight_decay: float = _key(0.0, "Weight decay; decoupled with adamw, L2 otherwise.", minimum=0)
    clip: float | None = _key(None, "Largest L2 norm of the gradient.", minimum=0)
    accumulate: int = _key(1, "Pieces in which a batch is read, one after another, to save memory.", minimum=1)
    label_smoothing: float = _key(0.0, "Share of a target's probability spread over all symbols.", minimum=0)
    ar: float = _key(0.0, "Penalty on large features (AWD-LSTM: 2).", minimum=0)
    tar: float = _key(0.0, "Penalty on features that change from step to step (AWD-LSTM: 1).", minimum=0)
    skip_nonfinite: bool = _key(False, "Leave out steps whose gradient is not finite, instead of stopping.")
    ema: float | None = _key(
        None, "Decay a step of a moving average of the weights, which is then the model.", minimum=0
    )
    schedule: str = _key("one-cycle", "Learning rate over the training.", SCHEDULES)
    warmup_epochs: float = _key(0.0, "Epochs of linear warm-up before the schedule.", minimum=0)
    hold_epochs: float = _key(0.0, "Epochs at the peak before the schedule.", minimum=0)
    drop_epochs: tuple[float, ...] = _key((), "Epochs after which the rate is divided by 10 (steps).", minimum=0)
    n_cycles: int = _key(4, "Cycles, each twice as long as the one before (restarts).", minimum=1)
    epochs: int | None = _key(10, "Passes over the training part.", minimum=1)
    minutes: float | None = _key(None, "Stop after so many minutes of training.", minimum=0)
    patience: int | None = _key(None, "Stop after so many epochs without a better validation.", minimum=1)

    save_steps: int | None = _key(None, "Save every so many steps, to resume from.", minimum=1)
    save_minutes: float = _key(10.0, "Save every so many minutes, to resume from.", minimum=0)

    seed: int = _key(0, "Seed of weights, order and dropout.", minimum=0)
    device: str = _key("auto", "Where to compute; auto takes cuda, then mps, then cpu.", DEVICES)
    bf16: bool = _key(False, "Forward pass in bfloat16 on a GPU that has it.")

    def __post_init__(self) -> None:
        """Check every value."""
        for key in fields(self):
            value, meta = getattr(self, key.name), key.metadata
            if value is None or key.name == "options":
                continue
            if meta["choices"] and value not in meta["choices"]:
                hint = did_you_mean(str(value), meta["choices"])
                raise UsageError(f"{key.name} is {value!r}{hint}; it is one of: {', '.join(meta['choices'])}")
            minimum = meta["least"]
            for number in value if isinstance(value, tuple) else (value,):
                if minimum is not None and not (minimum <= number < math.inf):
                    raise UsageError(f"{key.name} is {number}; it must be at least {minimum} and finite")
        if self.seed >= 2**64:
            raise UsageError(f"seed is {self.seed}; it must be below 2**64")
        if self.n_context > MAX_CONTEXT:
            raise UsageError(f"n_context is {self.n_context}; it must be at most {MAX_CONTEXT}")
        for name in ("label_smoothing", "ema"):
            if (value := getattr(self, name)) is not None and value >= 1:
                raise UsageError(f"{name} is {value}; it must be below 1")
        for name in ("learning_rate", "clip", "minutes"):
            if getattr(self, name) == 0:
                raise UsageError(f"{name} is 0; it must be more")
        if self.epochs is None and self.minutes is None:
            raise UsageError("neither epochs nor minutes says when to stop; give one of them")

    def replace(self, **changes: Any) -> Recipe:
        """Return this recipe with other values; `options` are merged, a minutes limit lifts the epochs'.

        Raises:
            UsageError: an unknown key, or a value of the wrong type or out of its range.
        """
        known = {key.name: key for key in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise UsageError(f"no recipe key {name!r}{did_you_mean(name, known)}")
            if name == "corpus" and isinstance(value, str):
                value = [value]
            changes[name] = _typed(name, value, known[name].type)
        if changes.get("minutes") is not None and "epochs" not in changes:
            changes["epochs"] = None
        options = self.options | changes.pop("options", {})
        return replace(self, options=options, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that are set, `options` last, as JSON and TOML have them."""
        values = {key.name: getattr(self, key.name) for key in fields(self) if key.name != "options"}
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}
        return values | {"options": self.options}

    def to_toml(self) -> str:
        """Return the recipe as a TOML file."""
        values = self.to_dict()
        options = values.pop("options")
        lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
        lines += ["", "[options]"] + [f"{name} = {_toml(value)}" for name, value in options.items()]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Return a string, number, truth value or list as TOML, which writes them as JSON does."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _typed(name: str, value: Any, annotation: Any) -> Any:
    """Return `value` if it is of the annotated type, with int for float and list for tuple let pass."""
    wanted = str(annotation).split(" | ")
    if value is None and "None" in wanted:
        return None
    if wanted[0].startswith("tuple") and isinstance(value, (list, tuple)):
        element = str if "str" in wanted[0] else (int, float)
        if all(isinstance(part, element) for part in value):
            return tuple(value)
    elif type(value).__name__ == wanted[0].split("[")[0]:
        return value
    elif wanted[0] == "float" and type(value) is int:
        return float(value)
    raise UsageError(f"{name} is {value!r}; it must be {wanted[0]}")


def names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("charlm.recipes")
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load(name_or_path: str) -> Recipe:
    """Read a recipe: one that comes with the package, by name, or a TOML file.

    Raises:
        InputNotFoundError: there is neither.
        DataError: the file is not TOML.
        UsageError: an unknown key or a value out of its range.
    """
    if name_or_path in names():
        text = resources.files("charlm.recipes").joinpath(f"{name_or_path}.toml").read_text("utf-8")
    else:
        try:
            with Path(name_or_path).open(encoding="utf-8") as file:
                text = file.read(MAX_FILE + 1)
        except UnicodeDecodeError as error:
            raise DataError(f"recipe {name_or_path}: not UTF-8 at offset {error.start}") from None
        except OSError as error:
            hint = did_you_mean(name_or_path, names()) or "; `charlm recipes` lists those that come with charlm"
            raise InputNotFoundError(f"no recipe {name_or_path!r}: {error.strerror}{hint}") from None
    if len(text) > MAX_FILE:
        raise DataError(f"recipe {name_or_path}: longer than {MAX_FILE:,} characters, which no recipe is")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"recipe {name_or_path}: {error}") from None
    try:
        return Recipe().replace(**values)
    except UsageError as error:
        raise UsageError(f"recipe {name_or_path}: {error}") from None


def default(changes: Mapping[str, Any]) -> Recipe:
    """Return where to start if no recipe is named: with a model, from its defaults, else from the recipe `DEFAULT`.

    Args:
        changes: keys of the recipe that will be changed.
    """
    return Recipe() if "model" in changes else load(DEFAULT)


def about(name: str) -> str:
    """Return what a recipe of the package says of itself in its first line."""
    text = resources.files("charlm.recipes").joinpath(f"{name}.toml").read_text("utf-8")
    return text.splitlines()[0].removeprefix("#").strip()

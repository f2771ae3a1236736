"""Recipe: all hyper-parameters of a run, each with its type, its range and its description.

The fields of `Recipe` are both the keys of a TOML file and the options of `charlm train`. Options of the model's
constructor are in the file's `[options]` table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from charlm.errors import UsageError, did_you_mean

FEEDS = ("windows", "chunks", "stream")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "steps", "cosine", "restarts", "one-cycle")
SPLITS = ("standard", "tail20", "nanogpt", "random20", "all")
GROUPS = ("Text", "Model", "Optimiser", "Schedule", "Regularisation", "Saving", "Output")  # of options
DEVICES = ("auto", "cpu", "cuda", "mps")
MAX_CONTEXT = 1 << 20  # characters of a window


def _key(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    group: str = "Optimiser",
    flag: str | None = None,
) -> Any:
    """Return a field.

    Args:
        default: its value if nothing is said.
        help: description.
        choices: all values it can have.
        minimum: lowest value.
        group: one of `GROUPS`, the heading of its option on the help page.
        flag: its option, if that has another name.
    """
    meta = {"help": help, "choices": choices, "minimum": minimum, "group": group, "flag": flag}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a run; each field's help describes it.

    Raises:
        UsageError: a value is out of range.
    """

    model: str = _key("gru", "Architecture; see `charlm models`.", group="Model")
    options: dict[str, Any] = field(default_factory=dict)

    init_from: str | None = _key(
        None,
        "Begin with the weights of this run or file. Keys that are not given are those of its recipe.",
        group="Model",
        flag="--from",
    )
    keep_counts: bool = _key(
        False, "With --from: keep the n-gram counts of that model and add those of the text.", group="Model"
    )

    corpus: tuple[str, ...] = _key(
        (), "Text: a name of `charlm corpora`, a file, a folder of .txt files, or - for standard input.", group="Text"
    )
    split: str = _key("standard", "Split into training, validation and test part.", SPLITS, group="Text")
    bytes: bool = _key(False, "Use bytes instead of characters as symbols.", group="Text")
    lower: bool = _key(False, "Convert the text to lower case.", group="Text")
    min_count: int = _key(
        1, "Minimum count of a character in the vocabulary; rarer ones are unknown.", minimum=1, group="Text"
    )

    feed: str | None = _key(
        None,
        "Batches: overlapping windows, shuffled chunks, or a stream with carried state. Default: depends on the model.",
        FEEDS,
        group="Text",
    )
    n_context: int = _key(8, "Window length in characters (feed windows).", minimum=1, group="Text")
    stride: int = _key(
        1, "Characters between the starts of neighbouring windows (feed windows).", minimum=1, group="Text"
    )
    bptt: int = _key(
        64,
        "Sequence length in characters for truncated backpropagation (feeds chunks, stream).",
        minimum=1,
        group="Text",
    )
    batch_size: int | None = _key(
        None, "Sequences per batch. Default: 512 for windows, else 32.", minimum=1, group="Text"
    )

    optimizer: str = _key("adam", "Optimiser, from torch.optim.", OPTIMIZERS)
    learning_rate: float | None = _key(None, "Peak learning rate. Default: depends on the model.", minimum=0)
    momentum: float = _key(
        0.9, "Momentum (sgd, rmsprop); the one-cycle schedule varies that of sgd unless it is 0.", minimum=0
    )
    weight_decay: float = _key(
        0.0, "Weight decay; decoupled for adamw, else L2 penalty.", minimum=0, group="Regularisation"
    )
    clip: float | None = _key(None, "Clip the gradient to this L2 norm.", minimum=0)
    label_smoothing: float = _key(
        0.0,
        "Label smoothing: probability mass distributed uniformly over all symbols.",
        minimum=0,
        group="Regularisation",
    )
    ar: float = _key(
        0.0,
        "Activation regularisation: weight of the L2 penalty on features (AWD-LSTM: 2).",
        minimum=0,
        group="Regularisation",
    )
    tar: float = _key(
        0.0,
        "Temporal activation regularisation: weight of the L2 penalty on their changes (AWD-LSTM: 1).",
        minimum=0,
        group="Regularisation",
    )
    skip_nonfinite: bool = _key(False, "Skip steps with a non-finite gradient instead of stopping.")
    ema: float | None = _key(
        None,
        "Decay per step of an exponential moving average of the weights, used as the model.",
        minimum=0,
        group="Regularisation",
    )
    freeze: tuple[str, ...] = _key((), "Layer groups that keep their weights: embed,layers.0 (commas).")
    unfreeze_epochs: float | None = _key(
        None, "Gradual unfreezing: train the head first, and one group more every N epochs.", minimum=0
    )
    group_rates: tuple[float, ...] = _key(
        (), "Factors of the learning rate from embedding to head: 0.01,0.1,1 (commas).", minimum=0
    )
    schedule: str = _key("one-cycle", "Learning rate schedule.", SCHEDULES, group="Schedule")
    warmup_epochs: float = _key(0.0, "Epochs of linear warm-up before the schedule.", minimum=0, group="Schedule")
    hold_epochs: float = _key(0.0, "Epochs at the peak learning rate before the schedule.", minimum=0, group="Schedule")
    drop_epochs: tuple[float, ...] = _key(
        (), "Epochs after which the learning rate is divided by 10 (schedule steps).", minimum=0, group="Schedule"
    )
    n_cycles: int = _key(
        4, "Number of cycles, each twice as long as the previous one (schedule restarts).", minimum=1, group="Schedule"
    )
    epochs: int | None = _key(10, "Epochs: passes over the training part.", minimum=1, group="Schedule")
    minutes: float | None = _key(
        None, "Time limit in minutes of training; replaces the limit in epochs.", minimum=0, group="Schedule"
    )
    patience: int | None = _key(
        None, "Early stopping: epochs without improvement of the validation loss.", minimum=1, group="Schedule"
    )

    save_steps: int | None = _key(None, "Save a checkpoint for resuming every N steps.", minimum=1, group="Saving")
    save_minutes: float = _key(10.0, "Save a checkpoint for resuming every N minutes.", minimum=0, group="Saving")

    seed: int = _key(0, "Seed of initial weights, order and dropout.", minimum=0)
    device: str = _key("auto", "Device; auto selects cuda, mps or cpu, in this order.", DEVICES)
    bf16: bool = _key(False, "Forward pass in bfloat16, on GPUs that support it.")

    def __post_init__(self) -> None:
        """Check every value."""
        for key in fields(self):
            value, meta = getattr(self, key.name), key.metadata
            if value is None or key.name == "options":
                continue
            if meta["choices"] and value not in meta["choices"]:
                hint = did_you_mean(str(value), meta["choices"])
                raise UsageError(f"{key.name} is {value!r}{hint}; it is one of: {', '.join(meta['choices'])}")
            minimum = meta["minimum"]
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
                raise UsageError(f"{name} is 0; it must be positive")
        if self.keep_counts and self.init_from is None:
            raise UsageError("keep_counts needs a trained model; name it with --from")
        if self.epochs is None and self.minutes is None:
            raise UsageError("neither epochs nor minutes is given; give at least one")

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with changes; `options` are merged; `minutes` without `epochs` removes the limit in epochs.

        Raises:
            UsageError: an unknown key, or a value of the wrong type or out of range.
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
        """Return the keys that are not None, `options` last, in types of JSON and TOML."""
        values = {key.name: getattr(self, key.name) for key in fields(self) if key.name != "options"}
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}
        return values | {"options": self.options}


def _typed(name: str, value: Any, annotation: Any) -> Any:
    """Return `value` if it has the annotated type; convert int to float and list to tuple."""
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

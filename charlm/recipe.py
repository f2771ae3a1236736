"""Recipe: all hyper-parameters of a run, each with its type, its range and its description.

The fields of `Recipe` are both the keys of a TOML file and the options of `charlm train`. Options of the model's
constructor are in the file's `[options]` table.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from charlm.errors import UsageError, did_you_mean, shown
from charlm.options.arguments import checked_choice
from charlm.options.ranges import RANGES, checked_number, plain_number
from charlm.options.splits import SPLITS, STANDARD, split_of

FEEDS = ("windows", "chunks", "stream")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "steps", "cosine", "restarts", "one-cycle")
GROUPS = ("Text", "Model", "Optimiser", "Schedule", "Regularisation", "Saving", "Output")  # of options
DEVICES = ("auto", "cpu", "cuda", "mps")
_KINDS = {"str": "a string, not empty", "bool": "true or false", "dict": "a table of named options"}


def _key(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    group: str = "Optimiser",
    flag: str | None = None,
) -> Any:
    """Return a field.

    Args:
        default: its value if nothing is said.
        help: description.
        choices: all values it can have.
        group: one of `GROUPS`, the heading of its option on the help page.
        flag: its option, if that has another name.
    """
    meta = {"help": help, "choices": choices, "group": group, "flag": flag}
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
    split: str | None = _key(
        None,
        f"Training, validation and test part: {', '.join(SPLITS)}, or proportions such as 90/5/5. "
        f"Default: that of the named text, else {STANDARD}.",
        group="Text",
    )
    bytes: bool = _key(False, "Use bytes instead of characters as symbols.", group="Text")
    lower: bool = _key(False, "Convert the text to lower case.", group="Text")
    min_count: int = _key(1, "Minimum count of a character in the vocabulary; rarer ones are unknown.", group="Text")

    feed: str | None = _key(
        None,
        "Batches: overlapping windows, shuffled chunks, or a stream with carried state. Default: depends on the model.",
        FEEDS,
        group="Text",
    )
    n_context: int = _key(8, "Window length in characters (feed windows).", group="Text")
    stride: int = _key(1, "Characters between the starts of neighbouring windows (feed windows).", group="Text")
    bptt: int = _key(
        64,
        "Sequence length in characters for truncated backpropagation (feeds chunks, stream).",
        group="Text",
    )
    batch_size: int | None = _key(None, "Sequences per batch. Default: 512 for windows, else 32.", group="Text")

    optimizer: str = _key("adam", "Optimiser, from torch.optim.", OPTIMIZERS)
    learning_rate: float | None = _key(None, "Peak learning rate. Default: depends on the model.")
    momentum: float = _key(0.9, "Momentum (sgd, rmsprop); the one-cycle schedule varies that of sgd unless it is 0.")
    weight_decay: float = _key(0.0, "Weight decay; decoupled for adamw, else L2 penalty.", group="Regularisation")
    clip: float | None = _key(None, "Clip the gradient to this L2 norm.")
    label_smoothing: float = _key(
        0.0,
        "Label smoothing: probability mass distributed uniformly over all symbols.",
        group="Regularisation",
    )
    ar: float = _key(
        0.0,
        "Activation regularisation: weight of the L2 penalty on features (AWD-LSTM: 2).",
        group="Regularisation",
    )
    tar: float = _key(
        0.0,
        "Temporal activation regularisation: weight of the L2 penalty on their changes (AWD-LSTM: 1).",
        group="Regularisation",
    )
    skip_nonfinite: bool = _key(False, "Skip steps with a non-finite gradient instead of stopping.")
    ema: float | None = _key(
        None,
        "Decay per step of an exponential moving average of the weights, used as the model.",
        group="Regularisation",
    )
    freeze: tuple[str, ...] = _key((), "Layer groups that keep their weights: embed,layers.0 (commas).")
    unfreeze_epochs: float | None = _key(
        None, "Gradual unfreezing: train the head first, and one group more every N epochs."
    )
    group_rates: tuple[float, ...] = _key(
        (), "Factors of the learning rate from embedding to head: 0.01,0.1,1 (commas)."
    )
    schedule: str = _key("one-cycle", "Learning rate schedule.", SCHEDULES, group="Schedule")
    warmup_epochs: float = _key(0.0, "Epochs of linear warm-up before the schedule.", group="Schedule")
    hold_epochs: float = _key(0.0, "Epochs at the peak learning rate before the schedule.", group="Schedule")
    drop_epochs: tuple[float, ...] = _key(
        (), "Epochs after which the learning rate is divided by 10 (schedule steps).", group="Schedule"
    )
    n_cycles: int = _key(
        4, "Number of cycles, each twice as long as the previous one (schedule restarts).", group="Schedule"
    )
    epochs: int | None = _key(10, "Epochs: passes over the training part.", group="Schedule")
    minutes: float | None = _key(
        None, "Time limit in minutes of training; replaces the limit in epochs.", group="Schedule"
    )
    patience: int | None = _key(
        None, "Early stopping: epochs without improvement of the validation loss.", group="Schedule"
    )

    save_steps: int | None = _key(None, "Save a checkpoint for resuming every N steps.", group="Saving")
    save_minutes: float = _key(10.0, "Save a checkpoint for resuming every N minutes.", group="Saving")

    seed: int = _key(0, "Seed of initial weights, order and dropout.")
    device: str = _key("auto", "Device; auto selects cuda, mps or cpu, in this order.", DEVICES)
    bf16: bool = _key(False, "Forward pass in bfloat16, on GPUs that support it.")
    compile: bool = _key(False, "Compile the training step; on a GPU, also capture it as a CUDA graph.")

    def __post_init__(self) -> None:
        """Check every value, and convert it to its type."""
        for key in fields(self):
            value = _typed(key.name, getattr(self, key.name), str(key.type))
            object.__setattr__(self, key.name, value)  # the only assignment to a frozen instance
            if (choices := key.metadata.get("choices")) and value is not None:
                checked_choice(key.name, value, choices)
        if self.split is not None:
            split_of(self.split)
        if self.keep_counts and self.init_from is None:
            raise UsageError("keep_counts needs a trained model; name it with --from")
        if self.epochs is None and self.minutes is None:
            raise UsageError("neither epochs nor minutes is given; give at least one")

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with changes; `options` are merged; `minutes` without `epochs` removes the limit in epochs.

        Raises:
            UsageError: an unknown key, or a value of the wrong type or out of range.
        """
        known = [key.name for key in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(f"no recipe key {shown(name)}{did_you_mean(name, known)}")
        if changes.get("minutes") is not None and "epochs" not in changes:
            changes["epochs"] = None
        options = changes.pop("options", {})
        return replace(self, options=self.options | _typed("options", options, "dict"), **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that are not None, `options` last, in types of JSON and TOML."""
        values = {key.name: getattr(self, key.name) for key in fields(self) if key.name != "options"}
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}
        return values | {"options": self.options}


def _typed(name: str, value: Any, annotation: str) -> Any:
    """Return the value of a key as the annotated type, numbers within their range.

    Raises:
        UsageError: it has another type, or is out of range.
    """
    if value is None and annotation.endswith("None"):
        return None
    if annotation.startswith("tuple"):
        element = annotation.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_typed(name, part, element) for part in (value if isinstance(value, (list, tuple)) else [value]))
    if name in RANGES:
        return checked_number(name, value)
    kind = annotation.partition("[")[0].removesuffix(" | None")
    is_valid = type(value).__name__ == kind and value != ""
    if kind == "str" and is_valid and any("\ud800" <= char <= "\udfff" for char in value):
        raise UsageError(f"{name} is {shown(value)}, which is not UTF-8; rename it")
    if kind != "dict" and is_valid:
        return value
    if is_valid and all(isinstance(key, str) for key in value):
        return {key: plain_number(part) for key, part in value.items()}
    raise UsageError(f"{name} must be {_KINDS[kind]}, got {shown(value)}")

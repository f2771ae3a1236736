"""Checkpoints: one safetensors file with the weights and everything needed to use them.

The metadata of the file holds one JSON object: the fields of `Metadata`, the format, and a SHA-256 (file_format.py). No
pickle is read. Files are written atomically.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from charlm.data.vocab import Vocab
from charlm.errors import CheckpointError, DataError, UsageError
from charlm.files import atomic_write
from charlm.storage import file_format, migration, schema

if TYPE_CHECKING:  # reading a file for the numpy generator needs no torch
    import torch
    from torch import Tensor

    from charlm.models import CharModel

FORMAT = 2  # files of format 1 are upgraded by `migration`
MAX_REASON = 200  # characters of an error's reason, which may quote the file


@dataclass
class Metadata:
    """Content of a checkpoint in addition to the weights.

    Attributes:
        model: architecture, a key of `MODELS`, or where its class came from: "mine.py:MyRNN".
        options: of its constructor.
        vocab_size: V, including index 0.
        symbols: code points of the vocabulary.
        is_bytes: the symbols are bytes.
        n_context: window length in characters; None for a model that carries its state.
        recipe: with all defaults filled in.
        corpus: name, sha256, n_chars and longest_line of the text.
        counters: epoch, step, n_chars, seconds.
        result: valid_nats, test_nats and others, as far as known.
        versions: of charlm and torch.
        resume: training state for resuming, or empty; its tensors are stored with the weights.
    """

    model: str
    options: dict[str, Any]
    vocab_size: int
    symbols: list[int]
    is_bytes: bool
    n_context: int | None
    recipe: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    resume: dict[str, Any] = field(default_factory=dict)

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        return Vocab(self.symbols, self.is_bytes)

    @property
    def is_lower(self) -> bool:
        """Texts are converted to lower case."""
        return bool(self.recipe.get("lower"))

    @property
    def longest_line(self) -> int | None:
        """Length of the longest line of the training part, in symbols; None in older files, and without line breaks."""
        found: int | None = self.corpus.get("longest_line")
        return found


def save(
    path: Path,
    model: CharModel,
    metadata: Metadata,
    dtype: torch.dtype | None = None,
    extra_tensors: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint.

    Args:
        path: file to write or to replace.
        model: its weights are saved.
        metadata: everything else.
        dtype: convert floating-point weights to this type, for example to half the size; None keeps them.
        extra_tensors: tensors of `metadata.resume`. Their names contain "/", names of weights never do.

    Raises:
        OutputError: the file cannot be written.
        DataError: a weight is not finite, or too large for `dtype`.
    """
    from charlm.storage.weights import weights_of

    weights = {
        name: weight.detach().to("cpu", dtype if weight.is_floating_point() else None).contiguous()
        for name, weight in weights_of(model).items()
    }
    if not all(weight.isfinite().all() for weight in weights.values()):
        kind = "float32" if dtype is None else str(dtype).removeprefix("torch.")
        raise DataError(f"{path}: not written: weights are not finite in {kind}; train again, or use another type")
    weights |= extra_tensors or {}
    fields = {"format": FORMAT} | asdict(metadata)
    fields["result"] = {key: value for key, value in metadata.result.items() if _is_finite(value)}
    atomic_write(path, file_format.to_bytes(weights, fields))


def _is_finite(value: Any) -> bool:
    """Return False for a loss that a diverged model made infinite or NaN."""
    return not isinstance(value, float) or math.isfinite(value)


def _to_torch(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load as load_tensors

    return load_tensors(data)


def read(path: Path, load_tensors: Callable[[bytes], dict[str, Any]] | None = None) -> tuple[Metadata, dict[str, Any]]:
    """Read the metadata and the tensors of a checkpoint: weights, and those of `resume` with "/" in their names.

    Args:
        path: path of the file.
        load_tensors: safetensors function from the bytes of a file to tensors, which the caller checks against the
            architecture. By default they are PyTorch's, and checked here.

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
        CheckpointError: the file is not a charlm checkpoint, damaged, truncated, of a newer format, or its weights do
            not match its architecture.
        UsageError: see `load`.
    """
    metadata, tensors = parse(file_format.read_file(path), str(path), load_tensors or _to_torch)
    if load_tensors is None:
        _build(path, metadata, tensors)
    return metadata, tensors


def parse(
    content: bytes | bytearray, path: str, load_tensors: Callable[[bytes], dict[str, Any]] = _to_torch
) -> tuple[Metadata, dict[str, Any]]:
    """Return the metadata and the tensors in the bytes of a checkpoint file; see `read`.

    Args:
        content: bytes of the whole file.
        path: path for messages.
        load_tensors: see `read`.

    Raises:
        CheckpointError: see `read`.
    """
    file_format.check_sha256(content, path)
    try:
        metadata = file_format.metadata_of(content)
        version = metadata.pop("format")
        if type(version) is not int or version not in (1, FORMAT):
            raise CheckpointError(f"{path}: has format {str(version)[:20]}; this charlm reads {FORMAT}; upgrade charlm")
        weights = load_tensors(bytes(content))
        if version == 1:
            metadata, weights = migration.upgrade(metadata, weights)
        return Metadata(**schema.checked(metadata)), weights
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: {str(error)[:MAX_REASON]}") from None


def load(path: Path, device: str | torch.device = "cpu") -> tuple[CharModel, Metadata]:
    """Read a checkpoint and build its model, in float32 and evaluation mode.

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
        CheckpointError: the file is not a valid checkpoint, or its weights do not match its architecture.
        UsageError: its architecture is code that was not imported, see `charlm.models.use`.
    """
    metadata, tensors = parse(file_format.read_file(path), str(path))
    model = _build(path, metadata, tensors)
    return model.to(device).eval(), metadata


def _build(path: Path, metadata: Metadata, tensors: dict[str, Tensor]) -> CharModel:
    """Return the model of a file; the errors are those of `load`."""
    import torch

    from charlm.models import build, find
    from charlm.storage.weights import check_architecture, set_weights

    if ":" in metadata.model:
        try:
            find(metadata.model)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    try:
        check_architecture(metadata.model, metadata.vocab_size, metadata.options, metadata.n_context, weights)
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
            model = build(metadata.model, metadata.vocab_size, **metadata.options)
        set_weights(model, weights)
    except Exception as error:
        raise CheckpointError(f"{path}: its weights do not match its architecture: {str(error)[:MAX_REASON]}") from None
    return model

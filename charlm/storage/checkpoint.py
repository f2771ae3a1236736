"""Checkpoints: one safetensors file with the weights and everything needed to use them.

The metadata of the file holds one JSON object: the fields of `Metadata`, the format, and a SHA-256 over the whole file,
computed with the digits of the hash itself set to zero. No pickle is read. Files are written atomically.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from charlm.data.vocab import Vocab
from charlm.errors import CheckpointError, DataError, InputNotFoundError, UsageError
from charlm.files import atomic_write
from charlm.storage import migration, schema

if TYPE_CHECKING:  # reading a file for the numpy generator needs no torch
    import torch
    from torch import Tensor

    from charlm.models import CharModel

FORMAT = 2  # files of format 1 are upgraded by `migration`
KEY = "charlm"
# A file begins with the length of its header (8 bytes) and our metadata entry, whose JSON begins with the hash.
_HASH_AT = 8 + len(b'{"__metadata__":{"charlm":"{\\"sha256\\":\\"')
_START = b'{"__metadata__":{"charlm"'
MAX_REASON = 200  # characters of an error's reason, which may quote the file
_NO_HASH = "0" * 64
_DIGITS = slice(_HASH_AT, _HASH_AT + len(_NO_HASH))


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
    from safetensors.torch import save as to_bytes

    from charlm.storage.weights import weights_of

    weights = {
        name: weight.detach().to("cpu", dtype if weight.is_floating_point() else None).contiguous()
        for name, weight in weights_of(model).items()
    }
    if not all(weight.isfinite().all() for weight in weights.values()):
        kind = "float32" if dtype is None else str(dtype).removeprefix("torch.")
        raise DataError(f"{path}: not written: weights are not finite in {kind}; train again, or use another type")
    weights |= extra_tensors or {}
    fields = {"sha256": _NO_HASH, "format": FORMAT} | asdict(metadata)
    fields["result"] = {key: value for key, value in metadata.result.items() if _is_finite(value)}
    data = bytearray(to_bytes(weights, {KEY: json.dumps(fields, separators=(",", ":"))}))
    assert data[_DIGITS] == _NO_HASH.encode(), "safetensors has changed the layout of its header"
    data[_DIGITS] = hashlib.sha256(data).hexdigest().encode()
    atomic_write(path, data)


def _is_finite(value: Any) -> bool:
    """Return False for a loss that a diverged model made infinite or NaN."""
    return not isinstance(value, float) or math.isfinite(value)


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins as a checkpoint of charlm does."""
    try:
        if not path.is_file():  # opening a FIFO would wait for its writer
            return False
        with path.open("rb") as file:
            return file.read(_HASH_AT)[8:].startswith(_START)
    except OSError:
        return False


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
    metadata, tensors = parse(_content(path), str(path), load_tensors or _to_torch)
    if load_tensors is None:
        _build(path, metadata, tensors)
    return metadata, tensors


def _content(path: Path) -> bytes:
    """Return the bytes of a file; the errors are those of `read`."""
    try:
        if path.exists() and not path.is_file():  # a device may have no end
            raise InputNotFoundError(f"{path}: cannot be read: it is not a file")
        with path.open("rb") as file:
            _check_start(file.read(_HASH_AT), str(path))  # before a large file is read
            file.seek(0)
            return file.read()
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None


def _check_start(start: bytes, path: str) -> None:
    """Check the first bytes of a file: the length of the header, and its beginning.

    Raises:
        CheckpointError: the file is not a checkpoint, or its header is too long.
    """
    if not start[8:].startswith(_START):
        raise CheckpointError(f"{path}: is not a charlm checkpoint")
    if (n_header := int.from_bytes(start[:8], "little")) > schema.MAX_HEADER:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: its header is {n_header:,} bytes long")


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
    _check_start(bytes(content[:_HASH_AT]), path)
    view = memoryview(content)
    digest = hashlib.sha256(view[: _DIGITS.start])
    digest.update(_NO_HASH.encode())
    digest.update(view[_DIGITS.stop :])
    if digest.hexdigest().encode() != view[_DIGITS]:
        raise CheckpointError(f"{path}: is damaged or truncated (wrong SHA-256); use another copy")
    try:
        header = bytes(view[8 : 8 + int.from_bytes(view[:8], "little")])
        schema.check_header(header)
        metadata = json.loads(json.loads(header)["__metadata__"][KEY])
        del metadata["sha256"]
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
    metadata, tensors = parse(_content(path), str(path))
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

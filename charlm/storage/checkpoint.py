"""Checkpoints: one safetensors file with the weights and everything needed to use them.

The metadata of the file holds one JSON object: the fields of `Metadata`, the format, and a SHA-256 over the whole file,
computed with the digits of the hash itself set to zero. No pickle is read. Files are written atomically.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import safetensors

from charlm.data.vocab import N_CODE_POINTS, Vocab
from charlm.errors import CheckpointError, InputNotFoundError, UsageError
from charlm.files import atomic_write
from charlm.options.ranges import MAX_CONTEXT
from charlm.storage import migration

if TYPE_CHECKING:  # reading a file for the numpy generator needs no torch
    import torch
    from torch import Tensor

    from charlm.models import CharModel

FORMAT = 2  # files of format 1 are upgraded by `migration`
KEY = "charlm"
# A file begins with the length of its header (8 bytes) and our metadata entry, whose JSON begins with the hash.
_HASH_AT = 8 + len(b'{"__metadata__":{"charlm":"{\\"sha256\\":\\"')
_START = b'{"__metadata__":{"charlm"'
_NO_HASH = "0" * 64


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

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: a value of the wrong type, or inconsistent values.
        """
        types: dict[str, Any] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
        types["int | None"] = (int, NoneType)
        for key in fields(self):
            kind = str(key.type).split("[")[0]
            if not isinstance(getattr(self, key.name), types[kind]):
                raise ValueError(f"{key.name} is not {kind}")
        n_points = 256 if self.is_bytes else N_CODE_POINTS
        if not all(type(point) is int and 0 <= point < n_points for point in self.symbols):
            raise ValueError("symbols are not code points")
        if len(set(self.symbols)) + 1 != self.vocab_size:
            raise ValueError(f"{len(set(self.symbols))} symbols for a vocab_size of {self.vocab_size}")
        if self.n_context is not None and not 1 <= self.n_context <= MAX_CONTEXT:
            raise ValueError(f"n_context is {self.n_context}")
        if not isinstance(self.longest_line, (int, NoneType)):
            raise ValueError(f"longest_line is {self.longest_line}")

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        return Vocab(self.symbols, self.is_bytes)

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
    """
    from safetensors.torch import save as to_bytes

    from charlm.storage.weights import weights_of

    weights = {
        name: weight.detach().to("cpu", dtype if weight.is_floating_point() else None).contiguous()
        for name, weight in weights_of(model).items()
    }
    weights |= extra_tensors or {}
    text = json.dumps({"sha256": _NO_HASH, "format": FORMAT} | asdict(metadata), separators=(",", ":"))
    data = bytearray(to_bytes(weights, {KEY: text}))
    digits = slice(_HASH_AT, _HASH_AT + len(_NO_HASH))
    assert data[digits] == _NO_HASH.encode(), "safetensors has changed the layout of its header"
    data[digits] = hashlib.sha256(data).hexdigest().encode()
    atomic_write(path, data)


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins as a checkpoint of charlm does."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(_HASH_AT)[8:].startswith(_START)
    except OSError:
        return False


def _to_torch(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load as load_tensors

    return load_tensors(data)


def read(path: Path, load_tensors: Callable[[bytes], dict[str, Any]] = _to_torch) -> tuple[Metadata, dict[str, Any]]:
    """Read the metadata and the tensors of a checkpoint: weights, and those of `resume` with "/" in their names.

    Args:
        path: path of the file.
        load_tensors: safetensors function from the bytes of a file to tensors; default: to PyTorch's.

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
        CheckpointError: the file is not a charlm checkpoint, damaged, truncated, or of a newer format.
    """
    try:
        if path.exists() and not path.is_file():  # a device may have no end
            raise InputNotFoundError(f"{path}: cannot be read: it is not a file")
        data = path.read_bytes()
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(data, str(path), load_tensors)


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
    data = bytearray(content)
    digits = slice(_HASH_AT, _HASH_AT + len(_NO_HASH))
    if not bytes(data[8:_HASH_AT]).startswith(_START):
        raise CheckpointError(f"{path}: is not a charlm checkpoint")
    found, data[digits] = bytes(data[digits]), _NO_HASH.encode()
    if hashlib.sha256(data).hexdigest().encode() != found:
        raise CheckpointError(f"{path}: is damaged or truncated (wrong SHA-256); use another copy")
    try:
        n_header = int.from_bytes(data[:8], "little")
        metadata = json.loads(json.loads(data[8 : 8 + n_header])["__metadata__"][KEY])
        weights = load_tensors(bytes(data))
        del metadata["sha256"]
        version = metadata.pop("format")
        if version == 1:
            metadata, weights = migration.upgrade(metadata, weights)
        elif version != FORMAT:
            raise CheckpointError(f"{path}: has format {version}; this charlm reads {FORMAT}; upgrade charlm")
        return Metadata(**metadata), weights
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: {error}") from None


def load(path: Path, device: str | torch.device = "cpu") -> tuple[CharModel, Metadata]:
    """Read a checkpoint and build its model, in float32 and evaluation mode.

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
        CheckpointError: the file is not a valid checkpoint, or its weights do not match its architecture.
        UsageError: its architecture is code that was not imported, see `charlm.models.use`.
    """
    import torch

    from charlm.models import build, find
    from charlm.storage.weights import check_sizes, set_weights

    metadata, tensors = read(path)
    if ":" in metadata.model:
        try:
            find(metadata.model)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    try:
        check_sizes(metadata.model, metadata.vocab_size, metadata.options, weights)
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
            model = build(metadata.model, metadata.vocab_size, **metadata.options)
        set_weights(model, weights)
    except Exception as error:
        raise CheckpointError(f"{path}: its weights do not match its architecture: {error}") from None
    return model.to(device).eval(), metadata

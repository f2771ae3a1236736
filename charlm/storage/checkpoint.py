"""Checkpoints: one safetensors file with weights and all that is needed to use them.

The file's metadata holds one JSON object: format version, architecture and options, vocabulary, feed, recipe,
counters, results, corpus SHA-256, library versions, and a SHA-256 over the whole file with that hash's own digits
as zeros. No pickle is read. A file is written beside its final name, flushed, and renamed, so it is whole or absent.
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
from charlm.errors import CheckpointError, InputNotFoundError
from charlm.files import atomic_write
from charlm.recipe import MAX_CONTEXT

if TYPE_CHECKING:  # what only reads a file, to write text with it, does without torch
    import torch
    from torch import Tensor

    from charlm.models import CharModel

FORMAT = 1
KEY = "charlm"
# The header begins with the length (8 bytes), then our one metadata entry, whose JSON begins with the hash.
_HASH_AT = 8 + len(b'{"__metadata__":{"charlm":"{\\"sha256\\":\\"')
_NO_HASH = "0" * 64


@dataclass
class Metadata:
    """What is in a file beside the weights.

    Attributes:
        model: architecture, a key of `MODELS`.
        options: of its constructor.
        vocab_size: V, index 0 included.
        symbols: code points of the vocabulary.
        is_bytes: they are bytes.
        n_context: characters in a window; None for a model that carries its state.
        recipe: as resolved.
        corpus: name, sha256 and n_chars of the text.
        counters: epoch, step, n_chars, seconds.
        result: valid_nats, test_nats and the like, as far as they are known.
        versions: of charlm and torch.
        resume: what a training needs to go on; empty where it is not to go on. Its tensors are beside the weights.
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
        """Check what was read from a file.

        Raises:
            ValueError: a value of the wrong type, or values that do not go together.
        """
        char_classes: dict[str, Any] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
        char_classes["int | None"] = (int, NoneType)
        for key in fields(self):
            kind = str(key.type).split("[")[0]
            if not isinstance(getattr(self, key.name), char_classes[kind]):
                raise ValueError(f"{key.name} is not {kind}")
        n_points = 256 if self.is_bytes else N_CODE_POINTS
        if not all(type(point) is int and 0 <= point < n_points for point in self.symbols):
            raise ValueError("symbols are not code points")
        if len(set(self.symbols)) + 1 != self.vocab_size:
            raise ValueError(f"{len(set(self.symbols))} symbols for a vocab_size of {self.vocab_size}")
        if self.n_context is not None and not 1 <= self.n_context <= MAX_CONTEXT:
            raise ValueError(f"n_context is {self.n_context}")

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        return Vocab(self.symbols, self.is_bytes)


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
        model: whose weights are saved.
        metadata: everything else.
        dtype: convert weights that are no whole numbers, to half the size for instance; None keeps them.
        extra_tensors: tensors of `metadata.resume`, by names with a slash, which no weight has.

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
    assert data[digits] == _NO_HASH.encode(), "safetensors lays out its header in another way"
    data[digits] = hashlib.sha256(data).hexdigest().encode()
    atomic_write(path, data)


def _to_torch(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load as load_tensors

    return load_tensors(data)


def read(path: Path, load_tensors: Callable[[bytes], dict[str, Any]] = _to_torch) -> tuple[Metadata, dict[str, Any]]:
    """Read a checkpoint's description and tensors: the weights and, with a slash in their names, what `resume` needs.

    Args:
        path: of the file.
        load_tensors: from a file's bytes, by safetensors; for PyTorch unless another one is given.

    Raises:
        InputNotFoundError: there is no such file, or it cannot be opened.
        CheckpointError: it is no checkpoint of ours, damaged, cut off, or of a newer format.
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
    """Return what is in the bytes of a checkpoint file; see `read`.

    Args:
        content: the whole file.
        path: for messages.
        load_tensors: see `read`.

    Raises:
        CheckpointError: see `read`.
    """
    data = bytearray(content)
    digits = slice(_HASH_AT, _HASH_AT + len(_NO_HASH))
    if not bytes(data[8:_HASH_AT]).startswith(b'{"__metadata__":{"charlm"'):
        raise CheckpointError(f"{path}: is not a charlm checkpoint")
    found, data[digits] = bytes(data[digits]), _NO_HASH.encode()
    if hashlib.sha256(data).hexdigest().encode() != found:
        raise CheckpointError(f"{path}: is damaged or cut off (its SHA-256 does not fit); take another copy")
    try:
        n_header = int.from_bytes(data[:8], "little")
        metadata = json.loads(json.loads(data[8 : 8 + n_header])["__metadata__"][KEY])
        weights = load_tensors(bytes(data))
        del metadata["sha256"]
        version = metadata.pop("format")
        if version != FORMAT:
            raise CheckpointError(f"{path}: has format {version}; this charlm reads {FORMAT}; upgrade charlm")
        return Metadata(**metadata), weights
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: {error}") from None


def load(path: Path, device: str | torch.device = "cpu") -> tuple[CharModel, Metadata]:
    """Read a checkpoint and make its model, in float32 and evaluation mode.

    Raises:
        InputNotFoundError: there is no such file, or it cannot be opened.
        CheckpointError: the file is damaged or foreign, or its weights do not fit its architecture.
    """
    import torch

    from charlm.models import build
    from charlm.storage.weights import check_sizes, set_weights

    checkpoint, tensors = read(path)
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    try:
        check_sizes(checkpoint.model, checkpoint.vocab_size, checkpoint.options, weights)
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, then overwritten
            model = build(checkpoint.model, checkpoint.vocab_size, **checkpoint.options)
        set_weights(model, weights)
    except Exception as error:
        raise CheckpointError(f"{path}: its weights do not fit its architecture: {error}") from None
    return model.to(device).eval(), checkpoint

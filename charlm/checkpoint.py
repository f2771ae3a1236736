"""Checkpoints: one safetensors file with weights and all that is needed to use them.

The file's metadata holds one JSON object: format version, architecture and options, vocabulary, feed, recipe,
counters, results, corpus SHA-256, library versions, and a SHA-256 over the whole file with that hash's own digits
as zeros. No pickle is read. A file is written beside its final name, flushed, and renamed, so it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from charlm.errors import CheckpointError, InputNotFoundError
from charlm.files import write_whole
from charlm.models import CharModel, CountingModel, build
from charlm.vocab import N_CODE_POINTS, Vocab

FORMAT = 1
KEY = "charlm"
# The header begins with the length (8 bytes), then our one metadata entry, whose JSON begins with the hash.
_HASH_AT = 8 + len(b'{"__metadata__":{"charlm":"{\\"sha256\\":\\"')
_NO_HASH = "0" * 64


@dataclass
class Checkpoint:
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
        kinds: dict[str, Any] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
        kinds["int | None"] = (int, NoneType)
        for key in fields(self):
            kind = str(key.type).split("[")[0]
            if not isinstance(getattr(self, key.name), kinds[kind]):
                raise ValueError(f"{key.name} is not {kind}")
        n_points = 256 if self.is_bytes else N_CODE_POINTS
        if not all(type(point) is int and 0 <= point < n_points for point in self.symbols):
            raise ValueError("symbols are not code points")
        if len(set(self.symbols)) + 1 != self.vocab_size:
            raise ValueError(f"{len(set(self.symbols))} symbols for a vocab_size of {self.vocab_size}")
        if self.n_context is not None and self.n_context < 1:
            raise ValueError(f"n_context is {self.n_context}")

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        return Vocab(self.symbols, self.is_bytes)


def weights_of(model: CharModel) -> dict[str, Tensor]:
    """Return all that a model learned, parameters and counts, by name; what is shared once."""
    named = model.state_dict(keep_vars=True)
    first_name = {id(weight): name for name, weight in reversed(named.items())}
    return {name: weight for name, weight in named.items() if first_name[id(weight)] == name}


def save(
    path: Path,
    model: CharModel,
    about: Checkpoint,
    dtype: torch.dtype | None = None,
    beside: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint.

    Args:
        path: file to write or to replace.
        model: whose weights are saved.
        about: everything else.
        dtype: convert weights that are no whole numbers, to half the size for instance; None keeps them.
        beside: tensors of `about.resume`, by names with a slash, which no weight has.

    Raises:
        OutputError: the file cannot be written.
    """
    weights = {
        name: weight.detach().to("cpu", dtype if weight.is_floating_point() else None).contiguous()
        for name, weight in weights_of(model).items()
    }
    weights |= beside or {}
    text = json.dumps({"sha256": _NO_HASH, "format": FORMAT} | asdict(about), separators=(",", ":"))
    data = bytearray(safetensors.torch.save(weights, {KEY: text}))
    digits = slice(_HASH_AT, _HASH_AT + len(_NO_HASH))
    assert data[digits] == _NO_HASH.encode(), "safetensors lays out its header in another way"
    data[digits] = hashlib.sha256(data).hexdigest().encode()
    write_whole(path, data)


def read(path: Path) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Read a checkpoint's description and tensors: the weights and, with a slash in their names, what `resume` needs.

    Raises:
        InputNotFoundError: there is no such file, or it cannot be opened.
        CheckpointError: it is no checkpoint of ours, damaged, cut off, or of a newer format.
    """
    try:
        if path.exists() and not path.is_file():  # a device may have no end
            raise InputNotFoundError(f"{path}: is not a file")
        data = path.read_bytes()
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(data, str(path))


def parse(content: bytes | bytearray, path: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Return what is in the bytes of a checkpoint file; see `read`.

    Args:
        content: the whole file.
        path: for messages.

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
        about = json.loads(json.loads(data[8 : 8 + n_header])["__metadata__"][KEY])
        weights = safetensors.torch.load(bytes(data))
        del about["sha256"]
        version = about.pop("format")
        if version != FORMAT:
            raise CheckpointError(f"{path}: has format {version}; this charlm reads {FORMAT}; upgrade charlm")
        return Checkpoint(**about), weights
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: {error}") from None


def check_sizes(about: Checkpoint, weights: dict[str, Tensor]) -> None:
    """Check that the model can be made without much more memory and time than the file's size tells.

    Raises:
        ValueError: an option that asks for more, or weights that do not fit.
    """
    n_weights = sum(weight.numel() for weight in weights.values())
    sizes = {name: value for name, value in about.options.items() if isinstance(value, int)}
    for name, value in sizes.items():
        if abs(value) > (max(1, len(weights)) if name == "n_layers" else max(4096, n_weights)):
            raise ValueError(f"{name} is {value}, too much for what is in the file")
    if max(sizes.values(), default=0) ** 2 > max(2**20, n_weights):  # larger than a matrix that is there
        with torch.device("meta"):  # takes no memory, but seconds to import what it needs
            check_shapes(build(about.model, about.vocab_size, **about.options), weights)


def check_shapes(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Check that a model has just these weights; the shapes of counts are the counting model's business.

    Raises:
        ValueError: a weight is missing, in excess or of another shape.
    """
    own = weights_of(model)
    if own.keys() != weights.keys():
        names = ", ".join(sorted(own.keys() ^ weights.keys())[:3])
        raise ValueError(f"weights missing or in excess: {names}")
    for name, weight in own.items():
        if weight.shape != weights[name].shape and not isinstance(model, CountingModel):
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, not {tuple(weight.shape)}")


def set_weights(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Copy weights into a model, converted to its types; one that counts takes over the counts.

    Raises:
        ValueError: a weight is missing, in excess or of another shape, or counts do not hold together.
    """
    check_shapes(model, weights)
    if isinstance(model, CountingModel):
        model.restore(weights)
        return
    for name, weight in weights_of(model).items():
        weight.data.copy_(weights[name])


def load(path: Path, device: str | torch.device = "cpu") -> tuple[CharModel, Checkpoint]:
    """Read a checkpoint and make its model, in float32 and evaluation mode.

    Raises:
        InputNotFoundError: there is no such file, or it cannot be opened.
        CheckpointError: the file is damaged or foreign, or its weights do not fit its architecture.
    """
    checkpoint, tensors = read(path)
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    try:
        check_sizes(checkpoint, weights)
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, then overwritten
            model = build(checkpoint.model, checkpoint.vocab_size, **checkpoint.options)
        set_weights(model, weights)
    except Exception as error:
        raise CheckpointError(f"{path}: its weights do not fit its architecture: {error}") from None
    return model.to(device).eval(), checkpoint

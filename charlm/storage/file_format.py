"""File format of checkpoints: safetensors, whose metadata holds one JSON object with a SHA-256 over the whole file.

The SHA-256 is computed with its own digits set to zero. A file begins with the length of its header (8 bytes) and the
metadata entry, whose JSON begins with the SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.errors import CheckpointError, InputNotFoundError

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 10 << 20  # bytes; a vocabulary of all of Unicode takes 8.5 MB
MAX_CONTAINERS = 100_000  # lists and objects in a header; ten for each weight and its optimiser state
KEY = "charlm"
_HASH_AT = 8 + len(b'{"__metadata__":{"charlm":"{\\"sha256\\":\\"')
_START = b'{"__metadata__":{"charlm"'
_NO_HASH = "0" * 64
_DIGITS = slice(_HASH_AT, _HASH_AT + len(_NO_HASH))


def to_bytes(tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> bytearray:
    """Return the bytes of a file with tensors and a JSON object."""
    from safetensors.torch import save

    data = bytearray(save(tensors, {KEY: json.dumps({"sha256": _NO_HASH, **metadata}, separators=(",", ":"))}))
    assert data[_DIGITS] == _NO_HASH.encode(), "safetensors has changed the layout of its header"
    data[_DIGITS] = hashlib.sha256(data).hexdigest().encode()
    return data


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins as a checkpoint of charlm does."""
    try:
        if not path.is_file():  # opening a FIFO would wait for its writer
            return False
        with path.open("rb") as file:
            return file.read(_HASH_AT)[8:].startswith(_START)
    except OSError:
        return False


def read_file(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
        CheckpointError: it does not begin as a checkpoint does, or its header is too long.
    """
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
    if (n_header := int.from_bytes(start[:8], "little")) > MAX_HEADER:
        raise CheckpointError(f"{path}: is not a valid charlm checkpoint: its header is {n_header:,} bytes long")


def check_sha256(content: bytes | bytearray, path: str) -> None:
    """Check the beginning and the SHA-256 of the bytes of a file.

    Args:
        content: bytes of the whole file.
        path: path for messages.

    Raises:
        CheckpointError: the file is not a checkpoint, or damaged.
    """
    _check_start(bytes(content[:_HASH_AT]), path)
    view = memoryview(content)
    digest = hashlib.sha256(view[: _DIGITS.start])
    digest.update(_NO_HASH.encode())
    digest.update(view[_DIGITS.stop :])
    if digest.hexdigest().encode() != view[_DIGITS]:
        raise CheckpointError(f"{path}: is damaged or truncated (wrong SHA-256); use another copy")


def metadata_of(content: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object of a file, without the SHA-256.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError: the header is not that of a checkpoint.
    """
    header = bytes(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if header.count(b"[") + header.count(b"{") > MAX_CONTAINERS:  # parsing them takes time and memory
        raise ValueError(f"its header has more than {MAX_CONTAINERS:,} lists and objects")
    metadata: dict[str, Any] = json.loads(json.loads(header)["__metadata__"][KEY])
    del metadata["sha256"]
    return metadata

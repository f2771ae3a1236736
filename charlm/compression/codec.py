"""Codec: a stream of bytes to a compressed file and back, block by block, in bounded memory.

Decompressed bytes are written only after the CRC-32 of their block has been checked.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import BinaryIO

import numpy as np

from charlm.compression.coding import BlockCoder
from charlm.compression.file_format import (
    FORMAT,
    LANES_FORMAT,
    Block,
    Header,
    Reader,
    Write,
    block_bytes,
    end_bytes,
    header_bytes,
    max_block_chars,
)
from charlm.compression.models import CodingModel
from charlm.compression.predictors import Predictor, fingerprint, one_thread
from charlm.compression.range_coder import Decoder, Encoder, WrongBitsError
from charlm.data.vocab import Codepoints, code_points, to_text
from charlm.errors import CharlmError
from charlm.version import __version__

LIBRARIES = ("numpy", "torch", "constriction")
SURROGATES = "surrogateescape"  # bytes that are not UTF-8


@dataclass
class Report:
    """Result of a compression or decompression.

    Attributes:
        n_bytes: bytes of the text.
        n_chars: characters, or bytes for a model of bytes.
        payload_bytes: output of the range coder: the compressed file without header, lengths and CRCs.
        n_unknown: characters outside the model's vocabulary.
        unknown_bits: their part of the payload.
    """

    n_bytes: int = 0
    n_chars: int = 0
    payload_bytes: int = 0
    n_unknown: int = 0
    unknown_bits: float = 0.0


def compress(
    blocks: Iterable[bytes], write: Write, model: CodingModel, n_lanes: int = 1, block_chars: int | None = None
) -> Report:
    """Compress a stream of bytes.

    Args:
        blocks: the bytes, in parts of any size.
        write: receives the compressed file, part by part.
        model: the probabilities.
        n_lanes: number of parts of a block, coded in lockstep.
        block_chars: characters of a block, at most and by default `max_block_chars`; smaller blocks are written
            sooner, and each costs some 20 bytes.
    """
    report, crc = Report(), 0
    with one_thread():
        predictor = model.predictor(n_lanes)
    with one_thread():  # again, for PyTorch if the predictor imported it
        file_format = FORMAT if n_lanes == 1 or predictor.n_context is None else LANES_FORMAT
        arithmetic = fingerprint(predictor)
        write(header_bytes(Header(model.sha256, n_lanes, model.dynamic, arithmetic, _versions(), file_format)))
        coder = BlockCoder(predictor)
        is_bytes = predictor.vocab.is_bytes
        for points in _cut(_decode(blocks, is_bytes), block_chars or max_block_chars(n_lanes)):
            encoder, data = Encoder(), _to_bytes(points, is_bytes)
            coder.code(encoder, len(points), points)
            crc, payload = zlib.crc32(data, crc), encoder.payload()
            write(block_bytes(Block(len(points), crc, payload)))
            _add(report, len(data), len(points), len(payload))
        write(end_bytes(report.n_bytes, crc))
    report.n_unknown, report.unknown_bits = coder.unknown.n_unknown, coder.unknown.bits
    return report


def decompress(file: BinaryIO, name: str, write: Write, find: Callable[[Header], CodingModel]) -> Report:
    """Decompress a file.

    Args:
        file: compressed, open for reading.
        name: for messages.
        write: receives the text, block by block, each after its CRC-32 has been checked.
        find: function from the header to the model.

    Raises:
        DataError: the file is damaged, truncated, or of a newer format.
        CharlmError: this machine computes other probabilities than the machine that compressed the file.
    """
    reader = Reader(file, name)
    header = reader.header()
    model = find(header)
    with one_thread():
        predictor = model.predictor(header.blocks)
        with one_thread():
            if fingerprint(predictor) == header.fingerprint:
                return _decompress(reader, header, predictor, write)
        if fingerprint(predictor) == header.fingerprint:  # an earlier version wrote it, with all threads of PyTorch
            return _decompress(reader, header, predictor, write)
    raise _other_arithmetic(name, header, "before the first character")


def _decompress(reader: Reader, header: Header, predictor: Predictor, write: Write) -> Report:
    """Decompress what follows the header; see `decompress`."""
    report, crc = Report(), 0
    coder = BlockCoder(predictor, copies=header.format != FORMAT)
    while (block := reader.block(max_block_chars(header.blocks))).n_chars:
        try:
            points = coder.code(Decoder(block.payload), block.n_chars)
            data = _to_bytes(points, predictor.vocab.is_bytes)
        except (WrongBitsError, UnicodeEncodeError):
            raise _other_arithmetic(reader.name, header, f"after byte {report.n_bytes:,}") from None
        crc = zlib.crc32(data, crc)
        if crc != block.crc:
            raise _other_arithmetic(reader.name, header, f"after byte {report.n_bytes:,}")
        write(data)
        _add(report, len(data), block.n_chars, len(block.payload))
    reader.check_end(block, report.n_bytes, crc)
    report.n_unknown, report.unknown_bits = coder.unknown.n_unknown, coder.unknown.bits
    return report


def _add(report: Report, n_bytes: int, n_chars: int, payload_bytes: int) -> None:
    report.n_bytes += n_bytes
    report.n_chars += n_chars
    report.payload_bytes += payload_bytes


def _decode(blocks: Iterable[bytes], is_bytes: bool) -> Iterator[Codepoints]:
    """Yield the characters of a stream of bytes, or the bytes themselves."""
    if is_bytes:
        yield from (np.frombuffer(block, np.uint8) for block in blocks)
        return
    utf8 = codecs.getincrementaldecoder("utf-8")(SURROGATES)
    for block in blocks:
        yield code_points(utf8.decode(block))
    yield code_points(utf8.decode(b"", final=True))


def _cut(parts: Iterable[Codepoints], n_chars: int) -> Iterator[Codepoints]:
    """Yield a stream in blocks of `n_chars`, the last one shorter, none of them empty."""
    pending = np.empty(0, np.uint32)
    for part in parts:
        pending = np.concatenate([pending, part.astype(np.uint32)])
        while len(pending) >= n_chars:
            yield pending[:n_chars]
            pending = pending[n_chars:]
    if len(pending):
        yield pending


def _to_bytes(points: Codepoints, is_bytes: bool) -> bytes:
    """Return the bytes of characters; see `_decode`.

    Raises:
        UnicodeEncodeError: a surrogate that does not represent a byte.
    """
    if is_bytes:
        return points.astype(np.uint8).tobytes()
    return to_text(points).encode("utf-8", SURROGATES)


def _versions() -> dict[str, str]:
    """Return the versions of charlm and of `LIBRARIES`."""
    found = {"charlm": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _other_arithmetic(name: str, header: Header, where: str) -> CharlmError:
    here = _versions()
    differ = [f"{key} {made}, here {here.get(key)}" for key, made in header.versions.items() if here.get(key) != made]
    versions = f" (compressed with {'; '.join(differ)})" if differ else " (the versions are the same)"
    return CharlmError(
        f"{name}: {where}, this machine computes other probabilities than the one that compressed it{versions}; "
        "use the same versions and the same kind of processor as for compression"
    )

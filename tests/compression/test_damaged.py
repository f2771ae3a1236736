"""A damaged, truncated or foreign file is refused; nothing wrong is ever handed out."""

import io
import json
import zlib

import pytest
from small_models import TEXT
from test_round_trip import compressed, restored

from charlm.compression import adaptive_model, compress, decompress, load_model
from charlm.compression.file_format import MAGIC, Block, Header, Reader, block_bytes, header_bytes
from charlm.compression.predictors import fingerprint
from charlm.errors import CharlmError, DataError


@pytest.fixture(scope="module")
def file(small):
    """Return a small compressed file."""
    return compressed(TEXT[:40].encode(), small)[0]


def refused(file, model):
    """Return whether a file is refused, and check that nothing was handed out but what it held."""
    parts = []
    try:
        decompress(io.BytesIO(file), "a file", parts.append, lambda header: model)
    except CharlmError as error:
        assert "\n" not in str(error)
        assert b"".join(parts) in (b"", TEXT[:40].encode())
        return True
    return False


def test_every_flipped_bit_is_refused(small, file):
    accepted = []
    for bit in range(8 * len(file)):
        damaged = bytearray(file)
        damaged[bit // 8] ^= 1 << bit % 8
        if not refused(bytes(damaged), small):
            accepted.append(bit)
    assert accepted == []


def test_every_truncation_and_every_appended_byte_is_refused(small, file):
    assert [n for n in range(len(file)) if not refused(file[:n], small)] == []
    assert [byte for byte in range(256) if not refused(file + bytes([byte]), small)] == []


def with_header(file, **changes):
    """Return a file with other values in its header, and a valid CRC-32."""
    n = int.from_bytes(file[8:12], "little")
    values = json.loads(file[12 : 12 + n]) | changes
    text = json.dumps(values).encode()
    start = MAGIC + len(text).to_bytes(4, "little") + text
    return start + zlib.crc32(start).to_bytes(4, "little") + file[16 + n :]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "upgrade charlm"),
        ({"blocks": 0}, "header is damaged"),
        ({"blocks": 10**9}, "header is damaged"),
        ({"dynamic": -1}, "header is damaged"),
        ({"dynamic": True}, "header is damaged"),
        ({"model": "x"}, "header is damaged"),
        ({"versions": {"numpy": "1\n2"}}, "header is damaged"),
        ({"more": 1}, "header is damaged"),
    ],
    ids=str,
)
def test_every_field_of_the_header_is_checked(small, file, changes, message):
    with pytest.raises(DataError, match=message):
        restored(with_header(file, **changes), small)


def test_another_arithmetic_is_refused_before_the_first_character(small, file):
    other = with_header(file, fingerprint="0" * 16, versions={"numpy": "1.0"})
    with pytest.raises(CharlmError, match=r"before the first character, .* \(compressed with numpy 1.0, here "):
        restored(other, small)


def test_another_arithmetic_in_the_middle_is_found_by_the_crc(checkpoint, file):
    model = load_model(checkpoint(name="loop"))
    other = with_header(file, fingerprint=fingerprint(model.predictor(1)))
    parts = []
    with pytest.raises(CharlmError, match="after byte 0, this machine computes other probabilities"):
        decompress(io.BytesIO(other), "a file", parts.append, lambda header: model)
    assert parts == []


def test_blocks_cannot_be_exchanged_or_left_out():
    model = adaptive_model()
    text = bytes(range(256))
    parts = []
    compress([text], parts.append, model, block_chars=128)
    header, first, second, end = parts
    assert restored(header + first + second + end, model) == text
    for wrong in (header + second + first + end, header + first + end, header + second + end, header + end):
        with pytest.raises(CharlmError):
            restored(wrong, model)


def test_a_block_of_too_many_characters_or_bytes_is_refused_before_it_is_read():
    for n_chars, n_bytes in ((1 << 30, 8), (10, 1 << 30), (0, 12), (10, 7)):
        start = n_chars.to_bytes(4, "little") + n_bytes.to_bytes(4, "little") + bytes(4)
        with pytest.raises(DataError, match="a block is damaged"):
            Reader(io.BytesIO(start), "a file").block(1 << 17)
    header = Header("none", 1, 0, "0" * 16, {})
    assert Reader(io.BytesIO(header_bytes(header)), "a file").header() == header
    block = Block(3, 5, b"1234")
    assert Reader(io.BytesIO(block_bytes(block)), "a file").block(3) == block


def test_a_foreign_file_is_refused(small):
    for foreign in (b"", b"PK\x03\x04", b"\x93CLM\n\x1a\n" + bytes(100)):
        with pytest.raises(DataError, match="is not a file of `charlm compress`"):
            restored(foreign, small)

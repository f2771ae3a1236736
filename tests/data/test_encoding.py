"""Encoding: the result does not depend on the block size, nor on memory or file."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from charlm.data.byte_stream import ByteStream
from charlm.data.corpus import make_corpus
from charlm.data.encoding import decode, lower, utf16_or_32
from charlm.data.vocab import Vocab
from charlm.errors import DataError
from charlm.options.splits import split_of

slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
patient = settings(deadline=None, max_examples=40, suppress_health_check=slow)
MARK = "\ufeff"
LETTERS = "aA\u03a3\u03c3\u0130\u00df'.\u0301\u00ad \n-\u4e2d\U0001f600"  # sigma and its possible neighbours
texts = st.text(
    alphabet=st.one_of(st.sampled_from("ab\r\n\ufeff" + LETTERS), st.characters(codec="utf-8")), max_size=80
)


@patient
@given(st.lists(st.text(alphabet=LETTERS, max_size=4), max_size=8))
@example(["\u0391\u03a3", "\u0391"])
@example(["\u0391", "'\u03a3", "'", "."])
@example(["\u03a3", "", "a\u03a3"])
def test_lower_case_does_not_depend_on_where_a_text_is_cut(parts):
    assert "".join(lower(parts)) == "".join(parts).lower()


def expected(text, split, lower_case, min_count):
    """Return vocabulary and indices by the definition, from the whole text."""
    text = text.removeprefix(MARK)
    text = text.lower() if lower_case else text
    counts = Counter(text[: split_of(split).bounds(len(text))["train"][1]])
    vocab = Vocab(sorted(ord(char) for char, n in counts.items() if n >= min_count))
    return vocab, vocab.encode(text)


@patient
@given(
    text=texts.filter(lambda text: text.removeprefix(MARK)),
    split=st.sampled_from(["standard", "tail20", "all", "90/5/5"]),
    lower_case=st.booleans(),
    min_count=st.integers(1, 4),
    block_bytes=st.integers(1, 9),
)
@example("a" * 300 + "b\r\n", "standard", False, 1, 1)
@pytest.mark.parametrize("in_file", [False, True])
def test_ids_and_vocabulary_follow_the_definition(
    monkeypatch, in_file, text, split, lower_case, min_count, block_bytes
):
    data = text.encode()
    vocab, ids = expected(text, split, lower_case, min_count)
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        path = Path(folder) / "text"
        path.write_bytes(data)
        stream = ByteStream([path], block_bytes)
        for _ in range(2):  # the second time from the cache
            corpus = make_corpus(
                stream, "x", split, False, lower_case, min_count, min_chars=1, mmap_threshold=0 if in_file else 10**9
            )
            assert isinstance(corpus.ids, np.memmap) == in_file
            assert corpus.vocab == vocab
            assert corpus.ids.dtype == ids.dtype
            assert corpus.ids.tolist() == ids.tolist()
            assert corpus.sha256 == hashlib.sha256(data).hexdigest()
            assert corpus.bounds == split_of(split).bounds(len(ids))


@patient
@given(st.binary(min_size=1, max_size=300), st.integers(1, 9))
@example(b"ok \xed\xa0\x80 half a pair", 4)
@example("é".encode() * 20 + b"\xe2\x82", 3)
@example("\ufeffa".encode() + b"\xff", 2)
@example(b"\xef\xbb", 1)
def test_invalid_utf8_is_found_at_the_same_offset_with_every_block_size(data, block_bytes):
    try:
        n_chars = len(data.decode("utf-8").removeprefix(MARK))
    except UnicodeDecodeError as error:
        with pytest.raises(DataError, match=f"x: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start};"):
            make_corpus(ByteStream([data], block_bytes), "x", min_chars=1)
    else:
        if n_chars > 0:
            assert len(make_corpus(ByteStream([data], block_bytes), "x", min_chars=1).ids) == n_chars
    whole = make_corpus(ByteStream([data], block_bytes), "x", as_bytes=True, min_chars=1)
    assert whole.ids.tolist() == [byte + 1 for byte in data]


@pytest.mark.parametrize(("n_symbols", "dtype"), [(200, np.uint8), (300, np.int16), (40_000, np.int32)])
def test_ids_have_the_smallest_type_for_the_vocabulary(n_symbols, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "".join(chr(0x10000 + i) for i in range(n_symbols)) + "a" * 50
    (tmp_path / "text").write_bytes(text.encode())
    for mmap_threshold in (0, 10**9):
        corpus = make_corpus(ByteStream([tmp_path / "text"]), "x", "all", mmap_threshold=mmap_threshold)
        assert corpus.ids.dtype == dtype
        assert corpus.ids.tolist() == [*range(2, n_symbols + 2), *[1] * 50]


@patient
@given(st.lists(st.text(alphabet="\ufeffaé\n", max_size=5), min_size=1, max_size=4), st.integers(1, 5))
@pytest.mark.parametrize("kind", ["file", "bytes"])
def test_the_byte_order_mark_of_each_file_is_dropped_and_any_other_one_kept(kind, parts, block_bytes):
    data = [part.encode() for part in parts]
    wanted = "\n".join(part.removeprefix(MARK) for part in parts)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.txt" for i in range(len(data))]
        for path, part in zip(paths, data, strict=True):
            path.write_bytes(part)
        stream = ByteStream(paths if kind == "file" else data, block_bytes)
        assert "".join(decode(stream, "x")) == wanted
        if data != [b""]:
            raw = make_corpus(stream, "x", as_bytes=True, min_chars=1)
            assert raw.ids.tolist() == [byte + 1 for byte in b"\n".join(data)]


ENGLISH = "The quick brown fox jumps over the lazy dog. 1, 2, 3.\n" * 5
RUSSIAN = "\u041e\u043d \u0438 \u044f \u043f\u043e\u0439\u0434\u0451\u043c.\n" * 10


@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN], ids=["English", "Russian"])
def test_utf16_and_utf32_without_mark_are_named_in_a_warning(encoding, text, tmp_path, capsys):
    path = tmp_path / "saved.txt"
    path.write_bytes(text.encode(encoding))
    if encoding.startswith("UTF-16") and text is RUSSIAN:
        text = text.replace("\u0451", "\u0435")  # Russian is valid UTF-8 by accident, except for some letters
        path.write_bytes(text.encode(encoding))
    for _ in range(2):
        make_corpus(ByteStream([path]), "x")
        line = f"charlm: {path}: has the NUL bytes of {encoding}, not UTF-8; convert it: iconv -f {encoding} -t UTF-8\n"
        assert capsys.readouterr().err == line
    make_corpus(ByteStream([path]), "x", as_bytes=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text", ["", "a", "ab\x00cd\x00\x00" * 40, "\x00" * 400, ENGLISH, RUSSIAN, "\u4e2d\u6587\n" * 50], ids=ascii
)
def test_utf8_text_also_with_nul_characters_is_not_taken_for_utf16(text):
    assert utf16_or_32(text.encode()) is None


def test_utf16_with_a_mark_is_refused_by_its_name():
    with pytest.raises(DataError, match="byte 0xff at offset 0; convert the file from UTF-16, or train on its bytes"):
        make_corpus(ENGLISH.encode("utf-16"), "x")

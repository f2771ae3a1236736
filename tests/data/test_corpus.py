"""Corpus: decoding, checks, vocabulary and split."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charlm.data.corpus import MIN_CHARS, make_corpus
from charlm.data.vocab import Vocab
from charlm.errors import DataError
from charlm.options.splits import PARTS, SPLITS, split_of

patient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
ALPHABET = b"abcdefghij" * 20  # 200 characters
CONTIGUOUS = [name for name, split in SPLITS.items() if split.order == "text"]


@patient
@given(st.integers(MIN_CHARS, 3000), st.sampled_from([*CONTIGUOUS, "90/5/5", "1/2/3"]), st.booleans())
def test_the_parts_are_contiguous_and_cover_the_text(n, split, as_bytes):
    corpus = make_corpus(b"ab" * (n // 2) + b"c" * (n % 2), "x", split, as_bytes)
    assert corpus.bounds["train"][0] == 0
    assert corpus.bounds["train"][1] == corpus.bounds["valid"][0]
    assert corpus.bounds["valid"][1] == corpus.bounds["test"][0]
    assert corpus.bounds["test"][1] == n == len(corpus.ids)
    np.testing.assert_array_equal(np.concatenate([corpus.part(part) for part in PARTS]), corpus.ids)
    weights = split_of(split).weights
    for part, weight in zip(PARTS, weights, strict=True):
        assert abs(len(corpus.part(part)) - weight / sum(weights) * n) <= 1


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("standard", (160, 20, 20)),
        ("tail20", (160, 40, 0)),
        ("nanogpt", (180, 20, 0)),
        ("random20", (200, 0, 0)),
        ("all", (200, 0, 0)),
        ("90/5/5", (180, 10, 10)),
        ("197/2/1", (197, 2, 1)),
    ],
)
def test_the_parts_of_each_split_have_its_sizes(split, sizes):
    corpus = make_corpus(ALPHABET, "x", split)
    assert tuple(len(corpus.part(part)) for part in PARTS) == sizes


def test_the_vocabulary_comes_from_the_training_part_alone():
    corpus = make_corpus(b"ab" * 80 + b"v" * 20 + b"a" * 19 + b"t", "x")
    assert corpus.vocab.symbols == "ab"
    assert corpus.part("valid").tolist() == [0] * 20
    assert corpus.part("test").tolist() == [1] * 19 + [0]


def test_rare_characters_of_the_training_part_are_unknown():
    corpus = make_corpus(b"a" * 157 + b"bbc" + b"c" * 40, "x", min_count=2)
    assert corpus.vocab.symbols == "ab"
    assert corpus.ids.tolist() == [1] * 157 + [2] * 2 + [0] * 41


def test_line_ends_are_kept():
    text = "one\r\ntwo\rthree\n" * 10
    corpus = make_corpus(text.encode(), "x", "all")
    assert corpus.vocab.decode(corpus.ids) == text


def test_lower_converts_the_text_before_counting():
    text = "ÄbCd" * 30
    corpus = make_corpus(text.encode(), "x", lower=True)
    assert corpus.vocab.symbols == "bcdä"
    assert corpus.vocab.decode(corpus.ids) == text.lower()


def test_the_split_uses_the_length_after_conversion_to_lower_case():
    corpus = make_corpus("İ".encode() * 100, "x", lower=True)  # one character becomes two
    assert len(corpus.ids) == 200
    assert corpus.bounds["test"] == (180, 200)


def test_every_byte_has_the_index_of_its_value_plus_one():
    data = bytes(range(256))
    corpus = make_corpus(data, "x", as_bytes=True)
    assert corpus.vocab == Vocab.of_bytes()
    assert corpus.ids.tolist() == list(range(1, 257))


def test_a_given_vocabulary_is_used_unchanged():
    vocab = Vocab(map(ord, "a"))
    corpus = make_corpus(ALPHABET, "x", vocab=vocab)
    assert corpus.vocab is vocab
    assert corpus.ids.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0] * 20


def test_the_sha256_is_that_of_the_original_bytes():
    for lower in (False, True):
        assert make_corpus(b"Ab" * 60, "x", lower=lower).sha256 == hashlib.sha256(b"Ab" * 60).hexdigest()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"good" + b"\xff" + b"b" * 200, "book.txt: not UTF-8: byte 0xff at offset 4"),
        ("é".encode() * 60 + b"\xe2\x82", "byte 0xe2 at offset 120"),
        ("Müller ".encode("latin-1") * 30, "byte 0xfc at offset 1"),
        ("utf-16".encode("utf-16-le") * 30 + b"\x00\xd8", "byte 0xd8 at offset 361"),
    ],
)
def test_invalid_utf8_is_reported_with_its_offset_and_the_remedy(data, what):
    with pytest.raises(DataError) as error:
        make_corpus(data, "book.txt")
    assert what in str(error.value)
    assert "--bytes" in str(error.value)
    assert len(make_corpus(data, "book.txt", as_bytes=True).ids) == len(data)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(("n", "what"), [(0, "empty"), (1, "only 1"), (MIN_CHARS - 1, f"only {MIN_CHARS - 1}")])
def test_an_empty_or_too_short_text_is_refused(n, what, as_bytes):
    with pytest.raises(DataError, match=what):
        make_corpus(b"a" * n, "x", as_bytes=as_bytes)
    make_corpus(b"a" * MIN_CHARS, "x", as_bytes=as_bytes)


def test_nietzsche_is_the_text_of_the_reference(nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche", "all")
    assert corpus.sha256 == "23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647"
    assert len(corpus.ids) == 600_893
    assert len(corpus.vocab) == 85
    assert corpus.ids[:10].tolist() == [40, 42, 29, 30, 25, 27, 29, 1, 1, 1]
    assert corpus.ids.all()
    assert corpus.ids.dtype == np.uint8


def test_nietzsche_without_rare_characters_has_fifty_four(nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche", "all", lower=True, min_count=3)
    assert len(corpus.vocab) == 55


def test_nietzsche_is_split_eighty_ten_ten(nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche")
    assert corpus.bounds == {"train": (0, 480_714), "valid": (480_714, 540_804), "test": (540_804, 600_893)}
    assert len(corpus.vocab) == 83
    assert 0 < (corpus.ids == 0).sum() < 10

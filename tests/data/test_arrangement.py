"""Splits that rearrange a text: those of char-rnn and of the makemore lectures, by independent definitions."""

import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.data.arrangement import arrange
from charlm.data.byte_stream import ByteStream
from charlm.data.corpus import make_corpus
from charlm.errors import DataError
from charlm.options.splits import SPLITS, Split

TEXT = "".join(f"{n} " for n in range(40_000))  # 228,890 characters
NAMES = "\n".join(f"name {n}" for n in range(501))


def char_rnn(text, fraction=0.95):
    """Return training and validation part by char-rnn's definition: batches of a matrix of 50 rows, 50 columns each."""
    n_batches = len(text) // 2500
    rows = np.array(list(text[: n_batches * 2500])).reshape(50, -1)
    batches = np.split(rows, n_batches, axis=1)
    n_train = int(n_batches * fraction)
    parts = np.concatenate(batches[:n_train], axis=1), np.concatenate(batches[n_train:], axis=1)
    return ["".join(part.ravel()) for part in parts]


def parts_of(text, split):
    arranged, bounds = arrange(text, split)
    return [arranged[first:stop] for first, stop in bounds.values()]


def test_the_split_of_char_rnn_has_its_batches():
    assert parts_of(TEXT, SPLITS["char-rnn"]) == [*char_rnn(TEXT), ""]


def test_the_split_of_makemore_has_the_words_of_the_lectures():
    words = NAMES.splitlines()
    random.seed(42)
    random.shuffle(words)
    n1, n2 = int(0.8 * len(words)), int(0.9 * len(words))
    expected = [words[:n1], words[n1:n2], words[n2:]]
    assert [part.splitlines() for part in parts_of(NAMES, SPLITS["makemore"])] == expected


@given(st.text("ab\n", max_size=99), st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)))
def test_lines_are_shuffled_and_none_is_lost_or_cut(text, weights):
    arranged, bounds = arrange(text, Split(weights, "lines"))
    assert Counter(arranged.splitlines()) == Counter(text.removesuffix("\n").split("\n"))
    assert {(arranged[:stop] or "\n")[-1] for _, stop in bounds.values()} == {"\n"}


def test_a_corpus_of_rearranged_text_has_the_sha256_of_the_source_and_the_vocabulary_of_its_training_part():
    corpus = make_corpus(NAMES.encode(), "x", "makemore")
    assert corpus.sha256 == hashlib.sha256(NAMES.encode()).hexdigest()
    train, valid, test = parts_of(NAMES, SPLITS["makemore"])
    assert [corpus.vocab.decode(corpus.part(part)) for part in ("train", "valid", "test")] == [train, valid, test]
    assert corpus.vocab.symbols == "".join(sorted(set(train)))


def test_lower_case_and_bytes_are_rearranged_alike():
    text = "\u0130stanbul \u0391\u03a3\n" * 5000  # the lower case of the first letter has two characters
    lowered = make_corpus(text.encode(), "x", "char-rnn", lower=True)
    assert lowered.vocab.decode(lowered.part("valid")) == char_rnn(text.lower())[1]
    as_bytes = make_corpus(text.encode(), "x", "char-rnn", as_bytes=True)
    expected = char_rnn(text.encode().decode("latin-1"))[1]
    assert bytes(as_bytes.vocab.codepoints[as_bytes.part("valid") - 1].tolist()).decode("latin-1") == expected


@pytest.mark.parametrize(
    ("text", "split", "most", "message"),
    [
        (b"x" * 2499, "char-rnn", 10**9, "too short for this split"),
        (b"one line that is the only one", "makemore", 10**9, "too short for this split"),
        (b"x" * 9999, "char-rnn", 9998, "9,999 bytes are too many"),
        (b"a\n\xff", "makemore", 10**9, "x: not UTF-8: byte 0xff at offset 2"),
    ],
)
def test_a_text_that_cannot_be_rearranged_is_refused(text, split, most, message):
    with pytest.raises(DataError, match=message):
        make_corpus(ByteStream([text]), "x", split, min_chars=1, mmap_threshold=most)

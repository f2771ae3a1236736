"""Lines: none is longer than 1.3 times the longest line of the training text, and others are left as sampled."""

import re

import numpy as np
import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.data.vocab import Vocab
from charlm.errors import CheckpointError
from charlm.generation.items import sample_items
from charlm.generation.language_model import LanguageModel
from charlm.generation.line_limit import LineLimit, max_line
from charlm.models import build
from charlm.storage.checkpoint import Metadata

VOCAB = Vocab(map(ord, "\n ab"))
WORDS = np.random.default_rng(0).choice(["a", "bb", "abab", "baab"], 400).tolist()


def model_of(words, longest_line):
    """Return a model that has counted words and never a line break after them."""
    model = build("word-ngram", len(VOCAB), order=3)
    model.fit_counts(torch.from_numpy(VOCAB.encode(" ".join(words) + "\n")), torch.from_numpy(VOCAB.char_classes))
    corpus = {} if longest_line is None else {"longest_line": longest_line}
    symbols = VOCAB.codepoints.tolist()
    return LanguageModel(model, Metadata("word-ngram", model.config, len(VOCAB), symbols, False, None, corpus=corpus))


def lines_of(text, prompt, longest, n_texts=None):
    """Return the lines that a limit makes of a text."""
    limit = LineLimit(VOCAB, longest, VOCAB.encode(prompt).tolist(), n_texts)
    ids = VOCAB.encode(text).tolist()
    if n_texts is None:
        return VOCAB.decode([limit.apply(index) for index in ids]).split("\n")
    rows = np.array([limit.apply(np.full(n_texts, index)) for index in ids])
    return [VOCAB.decode(row.tolist()).split("\n") for row in rows.T]


def test_a_longer_line_ends_at_white_space_or_at_most_1_3_times_the_longest_line():
    assert lines_of("abab abab abab a", "\n", 10) == ["abab abab aba", " a"]
    assert lines_of("abab abab ab abab", "\n", 10) == ["abab abab ab", "abab"]
    assert lines_of("abab abab\nabab abab a\n", "\n", 10) == ["abab abab", "abab abab a", ""]
    assert max_line(10) == 13
    assert lines_of("a" * 30, "\n", 10) == ["a" * 13, "a" * 13, "aa"]


def test_the_line_of_a_prompt_goes_on_and_may_be_longer():
    assert lines_of("ab abab", "a\nabab abab", 10) == ["ab", "abab"]
    assert lines_of("ab abab", "a" * 50, 10) == ["ab", "abab"]


def test_texts_of_a_batch_have_the_lines_that_each_has_alone():
    limit, alone = LineLimit(VOCAB, 5, [1], 3), [LineLimit(VOCAB, 5, [1]) for _ in range(3)]
    for index in np.random.default_rng(1).integers(1, len(VOCAB), (100, 3)):
        assert limit.apply(index).tolist() == [one.apply(int(i)) for one, i in zip(alone, index, strict=True)]


@pytest.mark.parametrize("n_texts", [1, 3])
def test_a_model_that_writes_no_line_breaks_samples_lines_within_the_limit(n_texts):
    texts = ["".join(text) for text in model_of(WORDS, 20).generate_many(n_texts, "a", 300, seed=1)]
    free = ["".join(text) for text in model_of(WORDS, None).generate_many(n_texts, "a", 300, seed=1)]
    for text, other in zip(texts, free, strict=True):
        assert 20 <= max(map(len, text.split("\n"))) <= 26
        assert not re.search(r"[ab]{2}\n", other[:100])
        n_same = len(text.split("\n")[0])
        assert text[:n_same] == other[:n_same] and text[n_same] == "\n" != other[n_same]


@pytest.mark.parametrize("n_texts", [1, 2])
def test_no_character_of_several_bytes_is_cut(n_texts):
    vocab, longest = Vocab.of_bytes(), 31
    text = "\n" + "".join(np.random.default_rng(0).choice(list("日本語文字を書く"), 3000)) + "\n日"
    model = build("ngram", len(vocab), order=4)
    model.fit_counts(torch.from_numpy(vocab.encode(text)), torch.from_numpy(vocab.char_classes))
    symbols, corpus = vocab.codepoints.tolist(), {"longest_line": longest}
    metadata = Metadata("ngram", model.config, len(vocab), symbols, True, None, corpus=corpus)
    for chars in LanguageModel(model, metadata).generate_many(n_texts, "日", 400, seed=1, temperature=0.3):
        lines = "".join(chars).removesuffix("\ufffd").split("\n")  # the text may end within a character
        assert len(lines) > 5 and "\ufffd" not in "".join(lines)
        assert max(len(line.encode()) for line in lines) < max_line(longest) + 3


def test_the_limit_changes_no_probability():
    text = "abab bb a baab " * 5
    assert model_of(WORDS, 20).bits_per_char(text) == model_of(WORDS, None).bits_per_char(text)


def test_items_beyond_the_limit_are_drawn_again():
    words = [*WORDS[:40], "a\nbb\nab\nba\nabb"] * 3
    items = sample_items(model_of(words, 8), 4, seed=1, temperature=1.0)
    assert max(map(len, items)) <= max_line(8)
    items = sample_items(model_of(words, 115), 4, "ab" * 30, seed=2, temperature=1.0)
    assert max(map(len, items)) <= max_line(115)


def test_the_longest_line_is_that_of_the_training_part_and_none_without_line_breaks():
    corpus = make_corpus(b"abc\n" * 20 + b"x" * 7 + b"\n" + b"abcdefghijk\n", "a.txt", min_chars=1)
    assert corpus.longest_line == 3
    assert make_corpus(b"abcabc" * 20, "a.txt").longest_line is None
    assert make_corpus(b"abc\nabcdef" * 20, "a.txt", "all").longest_line == 9


def test_a_longest_line_that_is_no_number_is_refused(tmp_path):
    model_of(WORDS, "many").save(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"corpus\.longest_line is 'many'"):
        LanguageModel.load(tmp_path / "x.safetensors")

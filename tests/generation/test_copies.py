"""Copies of the training text are found exactly, in blocks too."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.data.corpus import make_corpus
from charlm.generation.copies import find_copies, report_copies

TEXTS = st.lists(st.integers(0, 2), max_size=40)


def reference(texts, training, n):
    """Return the number of copied n-grams and the length of the longest passage, by comparing everything."""
    parts = {tuple(training[i:j]) for i in range(len(training)) for j in range(i + n, len(training) + 1)}
    found = [tuple(text[i:j]) for text in texts for i in range(len(text)) for j in range(i + n, len(text) + 1)]
    copied = [part for part in found if part in parts]
    return sum(len(part) == n for part in copied), max(map(len, copied), default=0)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, st.integers(1, 5), st.integers(1, 9))
def test_share_and_longest_passage_are_those_of_a_comparison_of_everything(texts, training, n, block):
    arrays = [np.array(text, np.uint8) for text in texts]
    copies = find_copies(arrays, np.array(training, np.uint8), n, block)
    assert (copies.n_copied, copies.longest) == reference(texts, training, n)
    assert copies.n_grams == sum(max(0, len(text) - n + 1) for text in texts)
    passage = texts[copies.text][copies.start : copies.start + copies.longest]
    assert passage == training[copies.place : copies.place + copies.longest]


def test_the_report_names_the_passage_and_its_line():
    lines = [f"{number:03} is the number of this line\n" for number in range(30)]
    corpus = make_corpus("".join(lines).encode(), "lines.txt", "all")
    report = report_copies(["is the 009 is the number of that"], corpus)
    assert "'009 is the number of th', at line 10, character 279 of lines.txt" in report
    assert report.startswith("copies: 30.8% of the sample's 20-grams")
    assert report_copies(["is"], corpus) == "copies: the sample is shorter than 20 characters"

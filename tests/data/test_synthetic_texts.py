"""Synthetic texts: reproducible, structured as described, with the entropy that is stated."""

import math

import pytest

from charlm.data.named_texts import open_texts
from charlm.data.synthetic_texts import N_CHARS, SOURCES, entropy
from charlm.errors import DataError


def conditional_entropy(text, n_context):
    """Return the empirical entropy of a character given the characters before it, in bits."""
    after = {}
    for i in range(n_context, len(text)):
        row = after.setdefault(text[i - n_context : i], {})
        row[text[i]] = row.get(text[i], 0) + 1
    total = len(text) - n_context
    return sum(-n / total * math.log2(n / sum(row.values())) for row in after.values() for n in row.values())


@pytest.mark.parametrize("kind", SOURCES)
def test_a_text_is_reproducible_and_found_by_name(kind):
    text = SOURCES[kind]("3")
    assert text == SOURCES[kind]("3")
    assert text.encode() == b"".join(open_texts([f"{kind}:3"]))
    assert N_CHARS <= len(text) < N_CHARS + 100
    assert SOURCES[kind]("") != text


@pytest.mark.parametrize("order", [1, 2])
def test_markov_letters_have_the_stated_entropy_given_as_many_letters_as_stated(order):
    text, expected = SOURCES["markov"](str(order)), entropy("markov", str(order))
    assert conditional_entropy(text, order) == pytest.approx(expected, abs=0.01)
    assert conditional_entropy(text, order - 1) > expected + 0.3


def test_brackets_are_balanced_at_most_so_deep_and_have_the_stated_entropy():
    for depth in (1, 4):
        bits, open_brackets, deepest = 0.0, [], 0
        text = SOURCES["brackets"](str(depth))
        for symbol in text:
            if symbol in "([{":
                bits += math.log2(3) + (len(open_brackets) > 0)
                open_brackets.append(symbol)
            else:
                bits += len(open_brackets) < depth
                assert open_brackets.pop() + symbol in ("()", "[]", "{}")
            deepest = max(deepest, len(open_brackets))
        assert (open_brackets, deepest) == ([], depth)
        assert bits / len(text) == pytest.approx(entropy("brackets", str(depth)), abs=0.01)


def test_copied_words_are_equal_and_their_letters_are_random():
    lines = SOURCES["copy"]("5").splitlines()
    assert all(line[:5] == line[6:] and line[5] == "|" and len(line) == 11 for line in lines)
    letters = "".join(line[:5] for line in lines)
    assert conditional_entropy(letters, 0) == pytest.approx(math.log2(26), abs=0.01)
    assert entropy("copy", "5") == pytest.approx(5 * math.log2(26) / 12)


def test_parity_is_the_sum_of_random_digits():
    lines = SOURCES["parity"]("6").splitlines()
    assert all(len(line) == 8 and sum(map(int, line[:6])) % 2 == int(line[7]) for line in lines)
    assert conditional_entropy("".join(line[:6] for line in lines), 3) == pytest.approx(1, abs=0.01)
    assert entropy("parity", "6") == pytest.approx(6 / 9)


@pytest.mark.parametrize(
    "name", ["markov:0", "markov:5", "brackets:x", "copy:-1", "parity:1001", "parity:" + "9" * 5000]
)
def test_a_number_out_of_range_is_refused_in_a_line(name):
    with pytest.raises(DataError, match="must be a number from 1 to") as error:
        open_texts([name])
    assert len(str(error.value)) < 120

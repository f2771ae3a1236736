"""Scores of each character: they add up to the evaluation, in blocks of any size; totals, surprises and lines."""

import click
import numpy as np
import pytest
import torch

from charlm.data.vocab import Vocab
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.generation.language_model import LanguageModel
from charlm.inspection.scores import score_blocks
from charlm.inspection.surprises import Surprises
from charlm.inspection.terminal import background, coloured
from charlm.inspection.totals import Totals, by_line
from charlm.models import MODELS, build
from charlm.models.counting import fit_counts
from charlm.storage.checkpoint import Metadata

TEXT = "the cat sat on the mat; the dog sat on the log.\n" * 12
VOCAB = Vocab(map(ord, TEXT))


def make(name):
    """Return a language model, with counts of TEXT if it counts."""
    model = build(name, len(VOCAB)).eval()
    fit_counts(model, torch.from_numpy(VOCAB.encode(TEXT)), torch.from_numpy(VOCAB.char_classes))
    metadata = Metadata(name, model.config, len(VOCAB), VOCAB.codepoints.tolist(), False, model.n_context)
    return LanguageModel(model, metadata)


def text_range(text, first=0):
    """Return a text as indices, to be scored from a position on."""
    return TextRange(torch.from_numpy(VOCAB.encode(text)), first, len(text), VOCAB.bos_id)


def codepoints(text):
    """Return a text's characters as one block."""
    return [np.array([ord(char) for char in text], np.uint32)]


def blocks_of(model, text=TEXT, **options):
    """Return the scored blocks of a text."""
    return list(score_blocks([model], [text_range(text)], codepoints(text), **options))


@pytest.mark.parametrize("name", MODELS)
def test_the_bits_add_up_to_the_evaluation(name):
    model, text = make(name), text_range(TEXT, first=100)
    blocks = list(score_blocks([model], [text], codepoints(TEXT[100:]), block_chars=50))
    totals = Totals(1)
    for block in blocks:
        totals.add(block)
    expected = evaluate(model.model, text, model.metadata.n_context)
    row = totals.rows(["a"])[0]
    assert [block.offset for block in blocks] == list(range(0, len(TEXT) - 100, 50))
    assert abs(row["bits_per_char"] - expected.bits_per_char) < 1e-6
    assert row["accuracy"] == expected.accuracy
    assert row["n_chars"] == row["n_bytes"] == len(TEXT) - 100


@pytest.mark.parametrize("name", ["char3", "gru", "lstm-ngram"])
def test_the_likely_characters_are_those_of_probs(name):
    model = make(name)
    (block,) = blocks_of(model, TEXT[:40], n_likely=4)
    scores = block.scores[0]
    for i in (0, 1, 17, 39):
        expected = list(model.next(TEXT[:i], 4).items())
        found = [VOCAB.symbols[k - 1] for k in scores.likely_ids[i]]
        np.testing.assert_allclose(scores.likely_probs[i], [prob for _, prob in expected], rtol=1e-4)
        assert found == [char for char, _ in expected]
        if TEXT[i] in found:
            place = found.index(TEXT[i])
            assert scores.bits[i] == pytest.approx(-np.log2(scores.likely_probs[i, place]), rel=1e-4)
            assert scores.ranks[i] in (place + 1, place + 2)  # index 0, the unknown, is ranked, too


def test_two_models_score_the_same_characters_side_by_side():
    models, text = [make("ngram"), make("char3")], text_range(TEXT)
    blocks = list(score_blocks(models, [text, text], codepoints(TEXT), block_chars=100))
    totals = Totals(2)
    for block in blocks:
        totals.add(block)
    assert totals.best == 0  # the counts know the text; the network is untrained
    assert totals.bits[0] < totals.bits[1]


def test_unknown_characters_are_counted_and_never_likely():
    (block,) = blocks_of(make("ngram"), "the £ cat")
    assert block.codepoints[4] == ord("£")
    assert block.scores[0].bits[4] > 5
    assert (block.scores[0].likely_ids > 0).all()


def test_a_misprint_is_the_most_surprising_character():
    text = TEXT[:200] + TEXT[200:].replace("dog", "dxg", 1)
    at = text.index("dxg") + 1
    for block_chars in (7, 64, 4096):
        surprises = Surprises(3, VOCAB.symbols)
        for block in blocks_of(make("ngram"), text, block_chars=block_chars):
            surprises.add(block)
        first, *others = surprises.finish()
        line = text[:at].count("\n") + 1
        assert (first.offset, first.char, first.likely, first.line) == (at, "x", "o", line)
        assert first.column == at - text[:at].rindex("\n")
        assert first.before.endswith("the d") and first.after.startswith("g sat")
        assert len(others) == 2 and others[0].bits >= others[1].bits
        assert all(abs(one.offset - two.offset) >= 10 for one, two in [(first, others[0]), (first, others[1])])


def test_lines_are_scored_with_their_line_breaks():
    text = "the cat\n\nsat on\nthe"
    for block_chars in (1, 5, 100):
        lines = list(by_line(blocks_of(make("ngram"), text, block_chars=block_chars), 1))
        assert [(line.number, line.text, line.totals.n_chars) for line in lines] == [
            (1, "the cat", 8),
            (2, "", 1),
            (3, "sat on", 7),
            (4, "the", 3),
        ]


def test_colours_grow_with_the_bits():
    assert background(0.3, True) is None
    assert background(8, False) == background(20, False) == 197
    greens = [background(bits, True)[1] for bits in range(1, 9)]
    assert greens == sorted(greens, reverse=True)


def test_a_coloured_text_is_the_text_between_escape_sequences():
    text = "the cat \x1b[31m sat\n"
    (block,) = blocks_of(make("char3"), text)
    shown = coloured(block, truecolor=False)
    assert shown != text
    assert click.unstyle(shown).replace("↵", "") == text.replace("\x1b", "\ufffd")
    (block,) = blocks_of(make("char3"), "\tthe\u00a0cat")
    assert click.unstyle(coloured(block, truecolor=True)) == "\tthe\u00a0cat"

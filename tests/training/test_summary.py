"""Summary of a training: the final losses, and the sentence about overfitting."""

import math

import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.data.generated_texts import human_numbers
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.recipe import Recipe
from charlm.training.summary import bits, verdict
from charlm.training.trainer import Trainer


@pytest.mark.parametrize(
    ("best", "outcome", "options", "expected"),
    [
        (5, "overfitted", {"head_dropout": 0.0}, "best epoch: 5 of 15 (kept); then the model overfitted: raise --head"),
        (5, "overfitted", {"head_dropout": 0.5}, "lower --n-hidden"),
        (5, "overfitted", {"dropout": 0.1, "n_layers": 2}, "raise --dropout (now 0.1)"),
        (0, "overfitted", {"head_dropout": 0.5}, "the untrained model was better than all 15 epochs"),
        (15, "improving", {}, "still improving: --epochs 20 may be better"),
        (14, "converged", {}, "no longer improved"),
    ],
)
def test_the_verdict_names_the_best_epoch_and_an_option(best, outcome, options, expected):
    result = {"best_epoch": best, "last_epoch": 15, "outcome": outcome}
    assert expected in verdict(result, Recipe(options=options))


def test_a_training_without_validation_has_no_verdict():
    assert verdict({}, Recipe()) is None


def test_the_final_losses_of_a_long_part_are_those_of_its_first_characters():
    trainer = Trainer.make(Recipe(model="ngram", device="cpu"), make_corpus(human_numbers("999").encode(), "numbers"))
    trainer.state.model.fit_counts(trainer.train_ids)
    (first, stop), whole = trainer.corpus.bounds["valid"], trainer.final_scores()
    assert whole.keys() == {
        f"{part}_{key}" for part in ("valid", "test") for key in ("nats", "accuracy", "bits_per_byte")
    }
    part = trainer.final_scores(max_chars=500)
    text = TextRange(torch.from_numpy(trainer.corpus.ids), first, first + 500, trainer.corpus.vocab.bos_id)
    assert part["valid_nats"] == evaluate(trainer.state.model, text).nats_per_char != whole["valid_nats"]
    assert (part["valid_chars"], part["valid_part_chars"]) == (500, stop - first)
    assert trainer.final_scores(max_chars=stop - first) == whole  # the test part is as long


@pytest.mark.parametrize(("as_bytes", "n_bytes"), [(False, 2), (True, 1)])
def test_bits_per_byte_are_bits_per_character_divided_by_its_bytes_in_utf_8(as_bytes, n_bytes):
    cyrillic = human_numbers("300").translate({i: i + 0x400 for i in range(128)}).encode()
    trainer = Trainer.make(Recipe(model="ngram", device="cpu"), make_corpus(cyrillic, "numbers", as_bytes=as_bytes))
    trainer.state.model.fit_counts(trainer.train_ids)
    result = trainer.final_scores()
    for part in ("valid", "test"):
        assert result[f"{part}_bits_per_byte"] == pytest.approx(result[f"{part}_nats"] / math.log(2) / n_bytes)


def test_the_result_line_says_how_much_of_a_part_was_read():
    result = {"valid_nats": math.log(2), "test_nats": math.log(4)}
    assert bits(result) == "valid 1.000, test 2.000"
    result |= {"valid_chars": 250_000, "valid_part_chars": 1_000_000}
    assert bits(result) == "valid 1.000 (first 250,000 of 1,000,000 characters), test 2.000"

"""Intervals of a benchmark: blocks, Student's t, and what each of the two says."""

import math
import statistics

import numpy as np
import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.experiments.bench.entry import entries
from charlm.experiments.bench.intervals import (
    block_lengths,
    block_sums,
    compare_pairs,
    resampled_means,
    student_quantile,
)
from charlm.experiments.bench.rows import BITS, per_char_bits, run_benchmark
from charlm.experiments.bench.tables import shown_pairs, verdict
from charlm.generation.language_model import LanguageModel

RANDOM = np.random.default_rng(0)
N = 20_000


def row(entry, seed, bits, model="gru"):
    return {"entry": entry, "model": model, "seed": seed, "block_bits": block_sums(bits).tolist()}


def two_entries(shift, seed_shifts, noise=0.1):
    """Return rows of "a" and "b": b costs `shift` bits more; each seed of b another shift."""
    text = RANDOM.gamma(2.0, 1.0, N)
    rows = [row("a", k, text) for k in range(len(seed_shifts))]
    return rows + [row("b", k, text + shift + s + noise * RANDOM.normal(size=N)) for k, s in enumerate(seed_shifts)]


@pytest.mark.parametrize("degrees, expected", [(1, 12.706), (2, 4.303), (4, 2.776), (30, 2.042)])
def test_quantiles_of_student_are_those_of_the_tables(degrees, expected):
    assert student_quantile(degrees) == pytest.approx(expected, abs=5e-4)


def test_blocks_add_up_to_the_text_and_the_last_one_may_be_shorter():
    bits = RANDOM.random(1234)
    assert block_sums(bits).sum() == pytest.approx(bits.sum())
    assert block_lengths(1234).tolist() == [500, 500, 234]


def test_the_bootstrap_has_the_variance_of_the_mean_of_independent_blocks():
    sums = 500 * RANDOM.normal(2.0, 0.3, (200, 1))
    means = resampled_means(sums, np.full(200, 500.0))
    assert means.std() == pytest.approx(0.3 / math.sqrt(200), rel=0.15)


def test_correlated_characters_widen_the_interval_of_blocks():
    waves = np.repeat(RANDOM.normal(size=N // 100), 100)  # 100 characters are as hard as one another
    by_blocks = resampled_means(block_sums(waves)[:, None], block_lengths(N)).std()
    by_chars = resampled_means(block_sums(waves, 1)[:, None], block_lengths(N, 1), 200).std()
    assert by_blocks > 5 * by_chars


def test_a_difference_of_trained_models_need_not_be_one_of_architectures():
    [pair] = compare_pairs(two_entries(0.02, [-0.05, 0.0, 0.05]), N)
    assert (pair["first"], pair["second"]) == ("a", "b")
    assert pair["trained_models"][0] > 0
    assert pair["architectures"][0] < 0 < pair["architectures"][1]
    assert verdict(pair) == "no difference"


def test_a_last_block_of_one_character_does_not_widen_an_interval():
    text = RANDOM.gamma(2.0, 1.0, 1001)
    worse = text + 0.1
    worse[-1] -= 5.0  # one character that the worse model predicts far better
    (pair,) = compare_pairs([row("a", 0, text), row("b", 0, worse)], len(text))
    low, high = pair["trained_models"]
    assert low == pytest.approx(0.1 - 5 / 501) and high == pytest.approx(0.1)


def test_a_difference_that_all_seeds_agree_on_is_one_of_architectures():
    [pair] = compare_pairs(two_entries(0.2, [-0.01, 0.0, 0.01]), N)
    assert 0 < pair["architectures"][0] < pair["difference"] < pair["architectures"][1]
    assert verdict(pair) == "different"


def test_the_interval_of_architectures_follows_its_formula():
    rows = two_entries(0.1, [-0.02, 0.01, 0.03])
    [pair] = compare_pairs(rows, N)
    bits = {e: [sum(r["block_bits"]) / N for r in rows if r["entry"] == e] for e in ("a", "b")}
    differences = [b - a for a, b in zip(bits["a"], bits["b"], strict=True)]
    by_seed = statistics.variance(differences) / 3
    half = pair["architectures"][1] - pair["difference"]
    low, high = pair["trained_models"]
    by_text = ((high - low) / (2 * 1.96)) ** 2
    assert half == pytest.approx(4.303 * math.sqrt(by_seed + by_text), rel=0.02)


def test_one_seed_of_a_network_has_no_interval_of_the_architecture():
    [pair] = compare_pairs(two_entries(0.2, [0.0]), N)
    assert pair["architectures"] is None
    assert verdict(pair) == "these models only"


def test_counting_needs_no_seeds():
    text = RANDOM.gamma(2.0, 1.0, N)
    counted = [row("ngram", 0, text, "ngram"), row("words", 0, text + 0.1, "word-ngram")]
    [pair] = compare_pairs(counted, N)
    assert pair["architectures"] == pair["trained_models"]
    networks = [row("gru", k, text + 0.3 + 0.01 * k) for k in range(3)]
    assert [pair["architectures"] is None for pair in compare_pairs([*counted, *networks], N)] == [False] * 3


def test_of_many_entries_neighbours_and_pairs_without_a_difference_are_shown():
    random = np.random.default_rng(1)
    text = random.gamma(2.0, 1.0, N)
    shifts = {"a": 0, "b": 1, "c": 2, "d": 2, "e": 2, "f": 3}
    pairs = compare_pairs([row(name, 0, text + s + random.normal(0, 0.1, N)) for name, s in shifts.items()], N)
    shown = [pair["first"] + pair["second"] for pair in shown_pairs(pairs)]
    assert len(pairs) == 15 and len(shown) == 6
    assert ("ab" in shown, "ac" in shown) == (True, False)
    assert {"cd", "ce", "de"} < {"".join(sorted(pair)) for pair in shown}


def test_bits_per_character_are_those_of_the_protocol_and_are_kept(tmp_path):
    corpus = make_corpus(("the cat sat on the mat, and the dog sat on the log. " * 40).encode(), "cats")
    chosen = entries(["rnn"], {"epochs": 1, "batch_size": 4, "bptt": 16, "device": "cpu"}, 1500, len(corpus.vocab))
    for found in run_benchmark(chosen, 1, corpus, tmp_path, lambda run: None, sample_seconds=0.01):
        bits = per_char_bits(LanguageModel.load(tmp_path / f"{found['entry']}-0" / "best.safetensors"), corpus)
        assert bits.mean() * math.log(2) == pytest.approx(found["test_nats"], rel=1e-5)
        assert sum(found["block_bits"]) == pytest.approx(bits.sum(), abs=0.01)
        kept = np.load(tmp_path / f"{found['entry']}-0" / BITS)
        assert torch.from_numpy(kept).dtype == torch.float16
        assert np.allclose(kept, bits, rtol=1e-3)

"""Models that learn as they read: counts that begin with nothing, and dynamic counts of a trained model."""

import math
import resource

import numpy as np
import pytest
import torch
from small_models import TEXT
from test_round_trip import HARD, compressed, restored

from charlm.compression import adaptive_model, load_model
from charlm.compression.dynamic import update_interval
from charlm.errors import UsageError
from charlm.evaluation.dynamic import DynamicConfig, dynamic_nll
from charlm.evaluation.protocol import TextRange
from charlm.generation.language_model import LanguageModel
from charlm.ngrams.adaptive import AdaptiveNGram
from charlm.ngrams.match import MatchModel


@pytest.mark.parametrize("n_lanes", [1, 3])
def test_any_bytes_come_back_without_a_model(n_lanes):
    for data in HARD:
        assert restored(compressed(data, adaptive_model(), n_lanes)[0], adaptive_model()) == data


def test_the_payload_is_the_bits_of_the_counts():
    data = (TEXT * 20).encode()
    counts, match, bits = AdaptiveNGram(6), MatchModel(6), 0.0
    for i, byte in enumerate(data):
        probs = match.mix(counts.probs(data[max(0, i - 6) : i]))
        assert abs(probs.sum() - 1) < 1e-9 and probs.min() > 0
        bits -= math.log2(probs[byte])
        match.read(byte)
        counts.read(data[max(0, i - 6) : i], byte)
    _, report = compressed(data, adaptive_model())
    assert abs(report.payload_bytes - bits / 8) < 10
    assert report.payload_bytes < 0.1 * len(data)


def test_counts_are_dropped_at_the_limit_of_contexts():
    counts = AdaptiveNGram(3, max_contexts=50)
    for i, byte in enumerate(TEXT.encode()):
        counts.read(TEXT.encode()[max(0, i - 3) : i], byte)
        assert len(counts.contexts) <= 50


def bits_with_uniform(data, match):
    """Return the bits of each byte where the other model of a match model is uniform."""
    bits = []
    for byte in data:
        bits.append(-math.log2(match.mix(np.full(256, 1 / 256))[byte]))
        match.read(byte)
    return bits


def test_a_match_predicts_what_followed_the_last_time_and_learns_how_often_it_is_right():
    passage = bytes(range(100, 200))
    bits = bits_with_uniform(passage * 5, MatchModel(6))
    assert sum(bits[: len(passage) + 6]) == 8 * (len(passage) + 6)
    assert sum(bits[-len(passage) :]) < 0.05 * 8 * len(passage)


def test_a_wrong_prediction_ends_a_match_and_costs_less_than_two_bits_more():
    passage = bytes(range(100, 110))
    data = b"".join(passage + bytes([i]) for i in range(60))  # the byte behind the passage is always another one
    bits = bits_with_uniform(data, MatchModel(6))
    costs = bits[len(passage) :: len(passage) + 1]
    assert costs[0] == 8 < costs[1] and max(costs) < 10


def test_the_text_of_a_match_model_is_dropped_at_its_limit():
    match, passage = MatchModel(6, max_text=1000), bytes(range(100, 200))
    for byte in passage * 30:
        match.mix(np.full(256, 1 / 256))
        match.read(byte)
        assert len(match.text) < 1000


def test_a_short_text_in_many_parts_takes_little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file, _ = compressed(b"abc", adaptive_model(), 256)
    assert restored(file, adaptive_model()) == b"abc"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("name", ["ngram", "word-ngram"])
def test_dynamic_counts_need_the_bits_of_dynamic_evaluation(checkpoint, name):
    path, text = checkpoint(name=name), "What then? Supposing all philosophers in so far as women " * 5
    text = "".join(char for char in text if char in TEXT)
    model = LanguageModel.load(path)
    ids = torch.from_numpy(model.vocab.encode(text))
    whole = TextRange(ids, 0, len(ids), model.vocab.bos_id)
    n_bytes = dynamic_nll(model.model, whole, DynamicConfig(0.1, 0.0)).sum().item() / math.log(2) / 8
    dynamic = load_model(path, update_interval(len(text)))
    file, report = compressed(text.encode(), dynamic)
    assert restored(file, dynamic) == text.encode()
    assert abs(report.payload_bytes - n_bytes) < 10
    assert report.payload_bytes < compressed(text.encode(), load_model(path))[1].payload_bytes


def test_a_network_cannot_be_dynamic(checkpoint):
    with pytest.raises(UsageError, match="--dynamic needs a model of counts alone"):
        load_model(checkpoint(), 64).predictor(1)

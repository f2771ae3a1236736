"""Models that learn as they read: counts that begin with nothing, and dynamic counts of a trained model."""

import math

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


@pytest.mark.parametrize("n_lanes", [1, 3])
def test_any_bytes_come_back_without_a_model(n_lanes):
    for data in HARD:
        assert restored(compressed(data, adaptive_model(), n_lanes)[0], adaptive_model()) == data


def test_the_payload_is_the_bits_of_the_counts():
    data = (TEXT * 20).encode()
    counts, bits = AdaptiveNGram(6), 0.0
    for i, byte in enumerate(data):
        probs = counts.probs(data[max(0, i - 6) : i])
        assert abs(sum(probs) - 1) < 1e-9 and min(probs) > 0
        bits -= math.log2(probs[byte])
        counts.read(data[max(0, i - 6) : i], byte)
    _, report = compressed(data, adaptive_model())
    assert abs(report.payload_bytes - bits / 8) < 10
    assert report.payload_bytes < 0.1 * len(data)


def test_counts_are_dropped_at_the_limit_of_contexts():
    counts = AdaptiveNGram(3, max_contexts=50)
    for i, byte in enumerate(TEXT.encode()):
        counts.read(TEXT.encode()[max(0, i - 3) : i], byte)
        assert len(counts.contexts) <= 50


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

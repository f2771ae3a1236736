"""Cross-entropy and its units."""

import math

import pytest
import torch

from charlm.evaluation.metrics import EvalResult, nats_per_char, nats_to_bits


def test_cross_entropy_is_the_mean_negative_log_softmax():
    logits, targets = torch.randn(3, 4, 6, dtype=torch.float64), torch.randint(6, (3, 4))
    by_hand = 0.0
    for row in range(3):
        for t in range(4):
            exponentials = [math.exp(x) for x in logits[row, t].tolist()]
            by_hand -= math.log(exponentials[targets[row, t]] / sum(exponentials)) / 12
    assert nats_per_char(logits, targets).item() == pytest.approx(by_hand, rel=1e-12)


def test_a_bit_is_0_693_nats():
    assert nats_to_bits(math.log(2)) == 1
    result = EvalResult(nats=6 * math.log(2), n_chars=3)
    assert result.nats_per_char == pytest.approx(2 * math.log(2))
    assert result.bits_per_char == pytest.approx(2)

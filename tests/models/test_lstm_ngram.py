"""The LSTM with counting beside it is the mixture of the two, and trains as the LSTM alone."""

import math

import pytest
import torch

from charlm import checkpoint, training
from charlm.corpus import make_corpus
from charlm.models import build
from charlm.recipe import Recipe

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 30).encode()
OPTIONS = {"n_embed": 4, "n_hidden": 8, "share": 0.3, "order": 4}


@pytest.fixture
def counted():
    model = build("lstm-ngram", 5, **OPTIONS).eval()
    model.count(torch.randint(5, (300,)))
    return model


def test_it_is_the_mixture_of_the_two(counted):
    lstm, ngram = build("awd-lstm", 5, n_embed=4, n_hidden=8).eval(), counted.counts
    lstm.load_state_dict({k: w for k, w in counted.state_dict().items() if not k.startswith("counts.")})
    chars = torch.randint(5, (2, 30))
    expected = 0.7 * lstm(chars)[0].softmax(-1) + 0.3 * ngram(chars)[0].softmax(-1)
    torch.testing.assert_close(counted(chars)[0].softmax(-1), expected)
    half, state = counted(chars[:, :13])
    torch.testing.assert_close(torch.cat([half, counted(chars[:, 13:], state)[0]], 1), counted(chars)[0])


def test_it_trains_as_the_lstm_alone_and_validates_as_the_mixture(tmp_path):
    corpus = make_corpus(TEXT, "cats")
    common = {"epochs": 2, "batch_size": 4, "bptt": 16, "device": "cpu"}
    sizes = {"n_embed": 4, "n_hidden": 8}
    alone = training.train(Recipe().changed(model="awd-lstm", options=sizes, **common), corpus)
    both = training.train(Recipe().changed(model="lstm-ngram", options=OPTIONS, **common), corpus, tmp_path / "both")
    for name, weight in alone.model.named_parameters():
        torch.testing.assert_close(both.model.get_parameter(name), weight, rtol=0, atol=0)
    assert both.about.result["valid_nats"] < alone.about.result["valid_nats"]
    model, about = checkpoint.load(tmp_path / "both" / "best.safetensors")
    assert math.isclose(model.n_parameters, both.model.n_parameters)
    chars = torch.randint(5, (1, 40))
    torch.testing.assert_close(model(chars)[0], both.model.eval()(chars)[0], rtol=0, atol=0)
    assert about.result["valid_nats"] == both.about.result["valid_nats"]

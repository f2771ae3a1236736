"""The report of every architecture: each section is there or has its reason, and all numbers are finite."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hostile import small_options
from test_units import make, text_range

from charlm.evaluation.protocol import TextRange
from charlm.inspection.report import curves, embedding, report, saliency, units
from charlm.inspection.units import activations
from charlm.models import MODELS, CountingModel
from charlm.models.lstm_ngram import LSTMNGram

NO_STATE = {"char3"}


@pytest.fixture(params=MODELS)
def model(request):
    """Return a small model of an architecture with random weights, and counts of the text if it counts."""
    made = make(request.param, **small_options(request.param))
    if isinstance(made.model, CountingModel):
        made.model.fit_counts(text_range(made, 0).ids, torch.zeros(len(made.vocab), dtype=torch.uint8))
    return made


def test_each_section_is_there_or_has_its_reason(model):
    name, counts = model.metadata.model, isinstance(model.model, CountingModel)
    sections = report(model, text_range(model, 150), n_examples=2, n_places=1)
    expected = {"curves"} | (set() if isinstance(model.model, LSTMNGram) else {"experts"})
    expected |= {"gradient_flow"} if name in NO_STATE else set()
    expected |= set() if model.model.uses_gradients else {"embedding", "head", "units", "gradient_flow"}
    assert {key for key, section in sections.items() if "omitted" in section} == expected
    assert all(sections[key]["omitted"] for key in expected)
    assert json.dumps(sections, allow_nan=False)
    saliency = sections["saliency"]
    assert len(saliency["places"]) == 2
    assert ("integrated" in saliency["by_lag"]) != ("note" in saliency)
    if counts:
        assert "counts n-grams" in saliency["note"]
    elif "note" not in saliency:
        assert saliency["complete_places"] == 2


def test_of_a_long_window_the_nearest_characters_are_explained():
    made = make("rnn", n_hidden=6)
    made.metadata = replace(made.metadata, n_context=50)
    section = report(made, text_range(made, 150), n_examples=2, n_places=1)["saliency"]
    assert section["n_context"] == len(section["places"][0]["left_out"]) == 32


def test_the_activations_are_those_of_the_units():
    made = make("gru", n_hidden=6)
    section, values = units(made, text_range(made, 0)), activations(made, text_range(made, 0))
    assert section["activations"]
    for unit, shown in section["activations"].items():
        np.testing.assert_allclose(shown, values[:, int(unit)], atol=1e-3)


def test_only_finite_losses_with_their_characters_are_on_the_curves():
    log = [{"n_chars": 8, "train_nats": 0.5, "valid_nats": float("nan")}, {"n_chars": 9, "train_nats": float("inf")}]
    found = curves([*log, {"train_nats": 0.5}, {"n_chars": 10}])
    assert [[n for n, _ in found[part]] for part in ("train", "valid")] == [[8], []]


@pytest.mark.parametrize(("growth", "n_finite"), [(10, 5), (1e30, 0)])
def test_gradient_norms_that_are_not_finite_are_left_out(growth, n_finite):
    made = make("rnn", n_hidden=6)
    with torch.no_grad():
        for name, weight in made.model.layers.named_parameters():
            weight.copy_(growth * torch.eye(6) if name == "weight_hh_l0" else torch.zeros_like(weight))
    section = report(made, text_range(made, 150), n_examples=2, n_places=1)["gradient_flow"]
    assert json.dumps(section, allow_nan=False)
    if n_finite:
        assert [layer is not None for [layer] in section["norms"]] == [True] * n_finite + [False] * (7 - n_finite)
    else:
        assert section == {"omitted": "rnn: no gradient norm is finite"}


def test_an_embedding_of_one_number_has_one_axis():
    section = embedding(make("gru", n_embed=1))
    assert {y for _, y in section["coordinates"]} == {0} and section["variance_shares"] == [1, 0]
    assert len(section["axis_ends"]) == 1


def test_saliency_reads_only_what_it_explains_of_a_text_without_end():
    made = make("gru", n_hidden=6)
    ids = torch.ones(1, dtype=torch.uint8).expand(10**12)  # one byte of memory
    section = saliency(made, TextRange(ids, 150, len(ids), made.vocab.bos_id), n_examples=2)
    assert len(section["places"]) == 2

"""The report of every architecture: each section is there or has its reason, and all numbers are finite."""

import json
from dataclasses import replace

import pytest
import torch
from hostile import small_options
from test_units import make, text_range

from charlm.inspection.report import report
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

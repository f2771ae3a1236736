"""Settings of dynamic evaluation and mixtures: chosen on the validation part of a model's training text."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from charlm import api
from charlm.data.generated_texts import human_numbers
from charlm.errors import UsageError
from charlm.evaluation.dynamic import DynamicConfig, dynamic_nll
from charlm.evaluation.protocol import TextRange
from charlm.evaluation.search import DECAY_GRID, RATE_GRID, coordinate_search
from charlm.experiments.evaluate import evaluate_models
from charlm.experiments.trained_models import DynamicOptions, TrainedModel, dynamic_config, read_text

SIZES = {"n_hidden": 8, "n_embed": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(human_numbers("100"))
    options = {"model": "rnn", "options": SIZES, "bptt": 16, "batch_size": 8, "epochs": 1, "device": "cpu"}
    model = api.train(folder / "text.txt", **options)
    return TrainedModel(folder / "rnn.safetensors", model)


def test_missing_options_are_chosen_on_the_end_of_the_validation_part(trained):
    messages = []
    config = dynamic_config(trained, DynamicOptions("sgd", segment_len=9), messages.append, search_chars=40)
    text = read_text(trained, (), messages.append)
    ids, stop = torch.from_numpy(text.ids), text.bounds["valid"][1]

    def nats(config):
        return dynamic_nll(trained.model.model, TextRange(ids, stop - 40, stop), config).sum().item()

    expected = coordinate_search(nats, DynamicConfig(0.03, 0.01, segment_len=9), RATE_GRID["sgd"], DECAY_GRID)
    assert (config.rate, config.decay, config.segment_len) == (expected.rate, expected.decay, 9)
    chosen = f"--rate {config.rate:g} --decay {config.decay:g}"
    assert messages == [f"{trained.path}: {chosen}, chosen on the last 40 characters of the validation part"]


def test_without_a_search_missing_options_have_defaults(trained):
    config = dynamic_config(trained, DynamicOptions("rms"), print, search=False)
    assert (config.rate, config.decay, config.segment_len) == (1e-4, 0.01, 32)
    assert [r.shape for r in config.rms] == [p.shape for p in trained.model.model.parameters()]


def test_the_report_covers_the_test_part_by_default(trained):
    report = evaluate_models([trained], (), None, None, None, print)
    assert report["part"] == "test"
    assert report["nats_per_char"] == pytest.approx(trained.model.metadata.result["test_nats"], rel=1e-9)
    assert report["bits_per_char"] == pytest.approx(report["nats_per_char"] / math.log(2))


def test_a_bad_model_of_a_mixture_is_not_one_that_diverged(trained):
    bad = replace(trained.model, model=deepcopy(trained.model.model))
    with torch.no_grad():
        for parameter in bad.model.head.parameters():
            parameter.mul_(-50)
    models = [trained, TrainedModel(trained.path, bad)]
    report = evaluate_models(models, (), None, [0.9, 0.1], DynamicOptions("sgd", rate=0.0, decay=0.0), print)
    assert report["mixture"][1]["nats_per_char"] > report["nats_per_char"] + math.log(bad.model.vocab_size)
    assert report["dynamic"]["nats_per_char"] == pytest.approx(report["nats_per_char"])


def test_a_model_trained_on_standard_input_needs_a_named_text(trained):
    metadata = replace(trained.model.metadata, recipe=trained.model.metadata.recipe | {"corpus": ["-"]})
    piped = TrainedModel(trained.path, replace(trained.model, metadata=metadata))
    with pytest.raises(UsageError, match="trained on standard input; name the text with --corpus"):
        read_text(piped, (), print)

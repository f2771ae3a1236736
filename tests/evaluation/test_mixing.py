"""Context mixing: probabilities of a character given those before it, learned as the text is read."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from charlm import api
from charlm.data.generated_texts import human_numbers
from charlm.data.vocab import Vocab, code_points
from charlm.errors import CharlmError, UsageError
from charlm.evaluation.dynamic import DynamicConfig
from charlm.evaluation.mixing import mixed_nll, mixed_text_nll, training_logits
from charlm.evaluation.protocol import TextRange
from charlm.experiments.evaluate import evaluate_models
from charlm.experiments.trained_models import DynamicOptions, TrainedModel
from charlm.models import build
from charlm.ngrams.symbol_tree import SymbolTree

TEXT = "Ab ba, a bad Cab. \nA cab" * 12
VOCAB = Vocab(np.unique(code_points(TEXT)))
V = len(VOCAB)
IDS = VOCAB.encode(TEXT).astype(np.int64)
TREE = SymbolTree(IDS, V)
LOGITS = torch.randn(len(IDS) + 1, V, generator=torch.Generator().manual_seed(0))


def nats_of(ids, n_noisy=0):
    return mixed_text_nll(TREE, np.asarray(ids), [(0, LOGITS[: len(ids)])], VOCAB, n_noisy)


@pytest.mark.parametrize("n_read", [0, 1, 30, 200])
def test_the_probabilities_of_the_next_character_sum_to_1(n_read):
    each = [math.exp(-nats_of([*IDS[:n_read], symbol])[-1]) for symbol in range(V)]
    assert sum(each) == pytest.approx(1, abs=1e-5) and min(each) > 0


def test_a_prediction_does_not_depend_on_the_text_after_the_character():
    whole = nats_of(IDS)
    np.testing.assert_allclose(nats_of(IDS[:100]), whole[:100], rtol=1e-5)
    np.testing.assert_allclose(nats_of([*IDS[:100], *IDS[50:90]])[:100], whole[:100], rtol=1e-5)


def test_it_is_deterministic_and_the_chunks_of_the_network_do_not_matter():
    chunks = [(i, LOGITS[i : min(i + 7, len(IDS))]) for i in range(0, len(IDS), 7)]
    for n_noisy in (0, 100):
        first, again = nats_of(IDS, n_noisy), nats_of(IDS, n_noisy)
        assert (first == again).all()
        np.testing.assert_allclose(mixed_text_nll(TREE, IDS, chunks, VOCAB, n_noisy), first, rtol=1e-5)


def test_noise_is_added_to_the_first_characters_alone():
    none, some, more = (nats_of(IDS, n) for n in (0, 12, 24))
    assert (some[:12] == more[:12]).all() and (some[12:24] != more[12:24]).all() and (none[:12] != some[:12]).all()


def test_it_learns_a_text_that_repeats_itself_beside_a_useless_network():
    nats = nats_of(IDS)
    assert nats[-48:].mean() < 0.15 < math.log(V) / 2 < nats[:24].mean()


def test_a_good_network_is_followed_from_the_beginning():
    right = torch.nn.functional.one_hot(torch.from_numpy(IDS), V) * 6.0
    assert mixed_text_nll(TREE, IDS, [(0, right)], VOCAB)[:24].mean() < 0.2


def network(name):
    model = build(name, V, n_embed=4, n_hidden=8)
    if name == "lstm-ngram":
        model.fit_counts(torch.from_numpy(IDS[:160]), torch.from_numpy(VOCAB.char_classes))
        model.free_training_cache()
    return model


@pytest.mark.parametrize(("name", "n_context"), [("gru", None), ("lstm-ngram", None), ("char3", 3)])
@pytest.mark.parametrize("config", [None, DynamicConfig(0.01, 0.01)])
def test_the_model_is_restored(name, n_context, config):
    model, ids = network(name), torch.from_numpy(IDS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    runs = [mixed_nll(model, ids[:160], TextRange(ids, 200, 240), 160, VOCAB, n_context, config) for _ in range(2)]
    assert len(runs[0]) == 40 and (runs[0] == runs[1]).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()) and model.training


@pytest.mark.parametrize("name", ["gru", "lstm-ngram"])
@pytest.mark.parametrize("config", [None, DynamicConfig(0.01, 0.01)])
def test_a_text_read_in_parts_has_the_nats_of_the_whole_text(name, config):
    model, ids = network(name), torch.from_numpy(IDS)

    def nats(first, stop, ids=ids):
        return mixed_nll(model, ids[:160], TextRange(ids, first, stop), 160, VOCAB, None, config)

    whole = nats(160, 260)
    np.testing.assert_allclose(nats(160, 200), whole[:40], rtol=1e-3)
    np.testing.assert_allclose(nats(200, 260), whole[40:], rtol=1e-3)
    other = torch.cat([ids[:200], ids[:60]])
    np.testing.assert_allclose(nats(160, 260, other)[:40], whole[:40], rtol=1e-3)


@pytest.mark.parametrize(("name", "first"), [("gru", 0), ("lstm-ngram", 1)])
def test_the_training_part_is_predicted_from_the_characters_before(name, first):
    chunks = list(training_logits(network(name), torch.from_numpy(IDS), 0, VOCAB, None))
    assert chunks[0][0] == first and sum(len(logits) for _, logits in chunks) == len(IDS) - first
    if name == "lstm-ngram":  # its counts predict a text that repeats itself
        likeliest = torch.cat([logits.argmax(dim=-1) for _, logits in chunks]).numpy()
        assert (likeliest == IDS[1:])[48:].mean() > 0.9


def test_of_a_long_training_part_the_network_reads_the_end_alone():
    model, ids, n_read = network("gru"), torch.from_numpy(np.tile(IDS, 10)), []
    model.register_forward_hook(lambda module, args, result: n_read.append(args[0].numel()))
    for train_ids in (ids, ids[-1500:]):
        nats = mixed_nll(model, train_ids, TextRange(ids, 0, 80), 0, VOCAB, max_chars=100)
        assert len(nats) == 80 and sum(n_read) == 1024 + 20 + 80
        n_read.clear()


def test_a_network_that_diverges_is_an_error_with_its_remedy():
    model, text = network("gru"), TextRange(torch.from_numpy(IDS), 160, 240)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CharlmError, match="diverged at --rate 1e\\+38; use a lower --rate") as caught:
        mixed_nll(model, text.ids[:160], text, 160, VOCAB, None, DynamicConfig(1e38, 0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()) and model.training
    assert torch.is_grad_enabled() and caught.tb is not None  # the error's frames still exist


def test_counting_models_and_large_vocabularies_are_refused():
    text = TextRange(torch.from_numpy(IDS), 200, 240)
    with pytest.raises(UsageError, match="has only counts; use --dynamic rms"):
        mixed_nll(build("ngram", V), text.ids[:160], text, 160, VOCAB)
    with pytest.raises(UsageError, match="at most 256 symbols, got 300"):
        mixed_nll(build("gru", 301), text.ids[:160], text, 160, Vocab(range(1000, 1300)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(human_numbers("100"))
    options = {"model": "rnn", "options": {"n_hidden": 8, "n_embed": 4}, "epochs": 1, "device": "cpu"}
    model = api.train(folder / "text.txt", bptt=16, batch_size=8, **options)
    return TrainedModel(folder / "rnn.safetensors", model)


def test_the_report_has_the_result_of_the_part(trained):
    report = evaluate_models([trained], (), "valid", None, DynamicOptions("mix"), print)
    assert report["dynamic"]["method"] == "mix" and "rate" not in report["dynamic"]
    assert report["dynamic"]["nats_per_char"] < report["nats_per_char"]
    steps = evaluate_models([trained], (), "valid", None, DynamicOptions("mix", rate=0.001), print)["dynamic"]
    assert (steps["rate"], steps["decay"]) == (0.001, 0.01)
    assert steps["nats_per_char"] != report["dynamic"]["nats_per_char"]


def test_parts_that_are_read_first_and_mixtures_are_refused(trained):
    with pytest.raises(UsageError, match="reads the training part first"):
        evaluate_models([trained], (), "train", None, DynamicOptions("mix"), print)
    other = replace(trained)
    with pytest.raises(UsageError, match="is for one model; name one"):
        evaluate_models([trained, other], (), "test", [0.5, 0.5], DynamicOptions("mix"), print)

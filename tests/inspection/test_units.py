"""Properties of texts, areas under the ROC curve, and the units of a model."""

import tracemalloc

import numpy as np
import pytest
import torch

from charlm.data.vocab import Vocab
from charlm.errors import UsageError
from charlm.evaluation.protocol import TextRange
from charlm.generation.language_model import LanguageModel
from charlm.inspection.embedding import neighbours, principal_components
from charlm.inspection.experts import expert_names, expert_weights
from charlm.inspection.properties import PROPERTIES, bracket_depth, in_quotes, late_in_line, word_position
from charlm.inspection.units import activations, best_units, roc_aucs
from charlm.models import build
from charlm.storage.checkpoint import Metadata

TEXT = 'He said: "No (never)." And so on; 12 of them.\n' * 8


def make(name, **options):
    """Return a language model with random weights."""
    vocab = Vocab(map(ord, TEXT))
    model = build(name, len(vocab), **options)
    return LanguageModel(
        model, Metadata(name, model.config, len(vocab), vocab.codepoints.tolist(), False, model.n_context)
    )


def text_range(model, first):
    """Return the characters of TEXT from a position on."""
    return TextRange(torch.from_numpy(model.vocab.encode(TEXT)), first, len(TEXT), model.vocab.bos_id)


def marks(truth):
    return "".join(".x"[int(value)] for value in truth)


def test_properties_hold_once_their_character_is_read():
    assert marks(in_quotes('a "b" c')) == "..xx..."
    assert marks(in_quotes("“b” c")) == "xx..."
    assert marks(in_quotes('"b\n\nc')) == "xxx.."
    assert bracket_depth("a(b[c])]").tolist() == [0, 1, 1, 2, 2, 1, 0, 0]
    assert word_position("ab c1, ").tolist() == [1, 2, 0, 1, 2, 0, 0]
    assert marks(late_in_line("abcd\nabcd\n")) == "..xx." * 2
    assert all(len(function(TEXT)) == len(TEXT) for function in PROPERTIES.values())


def test_an_area_is_the_share_of_pairs_in_the_right_order():
    generator = np.random.default_rng(0)
    values = generator.integers(0, 5, (40, 3)).astype(np.float32)
    values[:, 2] = generator.random(40)
    truth = generator.random(40) < 0.4
    with_it, without = values[truth][:, None], values[~truth][None]
    expected = ((with_it > without) + 0.5 * (with_it == without)).mean(axis=(0, 1))
    np.testing.assert_allclose(roc_aucs(values, truth), expected)


def test_the_best_unit_is_found_with_its_sign_and_its_control_is_chance():
    generator = np.random.default_rng(0)
    truth = generator.random(4000) < 0.3
    values = generator.standard_normal((4000, 5))
    values[:, 3] -= 3.0 * truth
    (found,) = best_units(values, {"a property": truth, "never": np.zeros(4000, bool)})
    assert (found.name, found.unit, found.sign) == ("a property", 3, -1)
    assert found.auc == pytest.approx(0.983, abs=0.01)  # of two normal distributions 3 standard deviations apart
    assert found.control == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ["char3", "loop", "gru", "lstm", "transformer"])
def test_activations_after_a_character_give_the_prediction_of_the_next(name):
    model = make(name)
    text = text_range(model, 200)
    values = activations(model, text)
    assert values.shape == (len(TEXT) - 200, model.model.config.get("n_hidden", values.shape[1]))
    n = model.model.n_context or 60
    with torch.no_grad():
        expected, _ = model.model.eval()(text.ids[None, 250 - n + 1 : 251].long(), only_last=True)
        logits = model.model.head(torch.from_numpy(values[50:51]))
    if model.model.n_context:
        torch.testing.assert_close(logits, expected[0], atol=1e-5, rtol=1e-5)
    else:
        with torch.no_grad():
            whole, _ = model.model(text.ids[None, :251].long(), only_last=True)
        torch.testing.assert_close(logits, whole[0], atol=1e-4, rtol=1e-4)


def test_counting_models_have_no_units():
    with pytest.raises(UsageError, match="counts n-grams; it has no hidden units"):
        activations(make("ngram"), text_range(make("ngram"), 0))


def test_expert_weights_begin_equal():
    model = make("lstm-ngram", n_hidden=8, order=3)
    model.model.fit_counts(text_range(model, 0).ids)
    weights = expert_weights(model, activations(model, text_range(model, 300)))
    assert expert_names(model) == [
        "n-grams of characters",
        "n-grams of words",
        "cache of characters",
        "cache of words",
    ]
    np.testing.assert_allclose(weights, 0.25)
    assert expert_names(make("gru")) == []
    with pytest.raises(UsageError, match="gru has no n-gram experts"):
        expert_weights(make("gru"), np.zeros((1, 256)))


def test_principal_components_keep_distances_and_neighbours_are_by_angle():
    embed = np.array([[3.0, 0, 1], [-1, 0, 1], [0, 2, 1], [0, -2, 1]])
    coordinates, shares = principal_components(embed)
    between = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    np.testing.assert_allclose(between, np.linalg.norm(embed[:, None] - embed[None], axis=-1))
    assert shares.sum() == pytest.approx(1)
    rows, cosines = neighbours(np.array([[1.0, 0], [2, 0.1], [-1, 0], [0, 0]]), 2)
    assert rows[0].tolist() == [1, 3]
    np.testing.assert_allclose(cosines[0], [2 / np.hypot(2, 0.1), 0])


def test_neighbours_need_little_memory_and_are_those_of_all_cosines_at_once():
    embed = np.random.default_rng(0).integers(-2, 3, (1000, 3))  # with equal vectors and zero vectors
    tracemalloc.start()
    rows, cosines = neighbours(embed, 4, n_cosines=10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6  # bytes; all cosines are 8e6
    expected_rows, expected_cosines = neighbours(embed, 4, n_cosines=len(embed) ** 2)
    np.testing.assert_allclose(cosines, expected_cosines, atol=1e-12)
    assert (rows != np.arange(1000)[:, None]).all() and rows.shape == expected_rows.shape

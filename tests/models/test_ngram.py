"""Models of counts alone: the counts in PyTorch, the known result on the Nietzsche text, checkpoints."""

import numpy as np
import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.errors import CheckpointError
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.generation.numpy_generator import load_numpy
from charlm.models import build
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata

V = 5
TEXT = [1, 2, 3, 1, 1, 2, 4, 1, 3, 2, 2]
OPTIONS = {"order": 3, "smoothing": "kneser-ney"}


def counted(name="ngram", text=TEXT, **options):
    model = build(name, V, **options)
    model.fit_counts(torch.tensor(text), torch.arange(V, dtype=torch.uint8) % 4)
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ngram", {"order": 1}),
        ("ngram", {"order": 4, "smoothing": "witten-bell"}),
        ("word-ngram", {"order": 3}),
        ("word-ngram", {"order": 1}),
    ],
)
def test_logits_are_those_of_the_counts_in_a_batch_and_step_by_step(name, options):
    model, chars = counted(name, torch.randint(V - 1, (300,)).tolist(), **options), torch.randint(V, (3, 40))
    logits, _ = model(chars)
    assert logits.dtype == torch.float32
    contexts, _ = model.counts.read(chars.numpy())
    np.testing.assert_array_equal(logits.numpy(), model.counts.log_probs(contexts))
    for row, text in zip(logits.double().exp(), chars.tolist(), strict=True):
        state = None
        for probs, char in zip(row, text, strict=True):
            contexts, state = model.counts.step(char, state)
            np.testing.assert_allclose(model.counts.probs(contexts)[0], probs, rtol=1e-5)


@pytest.mark.parametrize("name", ["ngram", "word-ngram"])
def test_counts_may_be_updated_between_two_calls(name):
    model, chars = counted(name, order=3), torch.randint(V, (2, 20))
    _, state = model(chars[:, :12])
    model.update_counts(torch.tensor([4, 4, 1, 3, 0, 2, 4]), 0)
    torch.testing.assert_close(model(chars[:, 12:], state)[0], model(chars)[0][:, 12:])


@pytest.mark.parametrize(("lower", "nats"), [(True, 1.465), (False, 1.491)])
def test_witten_bell_of_order_5_reaches_the_known_nats(lower, nats, nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche", "tail20", lower=lower)
    model = build("ngram", len(corpus.vocab), order=5, smoothing="witten-bell")
    model.fit_counts(torch.from_numpy(corpus.part("train")))
    score = evaluate(model, TextRange(torch.from_numpy(corpus.ids), *corpus.bounds["valid"]), n_lanes=32)
    assert score.nats_per_char == pytest.approx(nats, abs=0.005)


def saved(path, options, model):
    """Write a checkpoint, whose hash is correct."""
    checkpoint.save(path, model, Metadata("ngram", options, V, [97, 98, 99, 100], False, None))


def test_half_precision_leaves_the_counts_unchanged(tmp_path):
    saved(tmp_path / "x", OPTIONS, counted(order=3))
    assert load_numpy(tmp_path / "x") is not None
    model, metadata = checkpoint.load(tmp_path / "x")
    checkpoint.save(tmp_path / "half", model, metadata, torch.float16)
    chars = torch.tensor([TEXT])
    for path in ("x", "half"):
        assert torch.equal(checkpoint.load(tmp_path / path)[0](chars)[0], counted(order=3)(chars)[0])


def test_a_checkpoint_with_invalid_counts_is_refused(tmp_path):
    model = counted(order=3)
    model.counts.levels[1].counts[0] = 0
    saved(tmp_path / "x", OPTIONS, model)
    with pytest.raises(CheckpointError, match="level 2"):
        checkpoint.load(tmp_path / "x")
    assert load_numpy(tmp_path / "x") is None


@pytest.mark.parametrize("changes", [{"order": 2}, {"order": 4}, {"order": 10**9}, {"smoothing": "x"}], ids=str)
def test_options_that_do_not_fit_the_counts_are_refused(changes, tmp_path):
    saved(tmp_path / "x", OPTIONS | changes, counted(order=3))
    with pytest.raises(CheckpointError, match="do not match"):
        checkpoint.load(tmp_path / "x")
    assert load_numpy(tmp_path / "x") is None

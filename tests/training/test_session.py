"""From a recipe and a text to a trained model and its files."""

import math
from typing import Any

import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.errors import DivergedError
from charlm.models import GRU, MODELS
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.training import session
from charlm.training.loop import Callback

CORPUS = make_corpus(("the cat sat on the mat, and the dog sat on the log. " * 8).encode(), "cats")
SIZES = {"n_embed": 3, "n_hidden": 4}
RECIPE = Recipe(model="gru", epochs=3, batch_size=4, bptt=20, device="cpu", options=SIZES)


class Spoil(Callback):
    """Make every epoch but the first one worse."""

    def on_batch_start(self, state):
        if state.epoch > 0:
            state.model.embed.weight.data.fill_(100.0)


class WithBuffer(GRU):
    """GRU that counts the batches that it has learned from."""

    def __init__(self, vocab_size: int, **options: Any) -> None:
        super().__init__(vocab_size, **options)
        self.register_buffer("n_batches", torch.tensor(0))

    def features(self, chars, state=None):
        self.n_batches += self.training
        return super().features(chars, state)


def test_the_best_model_has_its_own_buffers(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "with-buffer", WithBuffer)
    model = session.train(RECIPE.replace(model="with-buffer"), CORPUS, tmp_path / "run", [Spoil()])
    n_steps = model.metadata.counters["step"]  # of the first epoch
    assert model.metadata.counters["epoch"] == 1
    last = checkpoint.load(tmp_path / "run" / "last.safetensors")[0]
    assert (int(model.model.n_batches), int(last.n_batches)) == (n_steps, 3 * n_steps)
    assert torch.equal(checkpoint.load(tmp_path / "run" / "best.safetensors")[0].n_batches, model.model.n_batches)


class FailOnce(Callback):
    """Let the first write of "best" fail, and break off the training three steps later."""

    def __init__(self, folder):
        self.path = folder / "best.safetensors"

    def on_fit_start(self, state):
        self.path.mkdir()

    def on_batch_end(self, state):
        if state.epoch == 1 and state.step_in_epoch == 1:
            self.path.rmdir()
        if state.epoch == 1 and state.step_in_epoch == 3:
            raise KeyboardInterrupt


def test_a_best_model_that_could_not_be_written_is_written_before_the_last_one(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        session.train(RECIPE, CORPUS, tmp_path / "run", [FailOnce(tmp_path / "run")])
    assert "not saved this time, training continues" in capsys.readouterr().err
    counters = [checkpoint.read(tmp_path / "run" / f"{name}.safetensors")[0].counters for name in ("best", "last")]
    assert [each["epoch"] for each in counters] == [1, 1] and counters[0]["step"] == counters[1]["step"] - 3
    resumed = session.train(RECIPE, CORPUS, tmp_path / "run", [Spoil()], resume=lambda differences: None)
    assert resumed.metadata.counters == checkpoint.read(tmp_path / "run" / "best.safetensors")[0].counters
    assert resumed.metadata.counters["step"] == counters[0]["step"]


class Explode(Callback):
    """Multiply the weights after the last step."""

    def on_batch_end(self, state):
        if state.progress >= 1:
            with torch.no_grad():
                for weight in state.model.parameters():
                    weight.mul_(50)


@pytest.mark.parametrize("split", ["all", "standard"])
def test_a_training_that_diverges_at_its_end_is_an_error(split, tmp_path):
    corpus = make_corpus(b"one two three four five. " * 40, "few", split)
    with pytest.raises(DivergedError, match="worse than a uniform guess"):
        session.train(RECIPE.replace(epochs=1, learning_rate=1e-3), corpus, tmp_path / "run", [Explode()])


def test_a_training_is_no_divergence_if_only_the_held_out_text_is_of_another_kind(tmp_path):
    corpus = make_corpus(b"abcdefgh" * 800 + b"hgfedcba" * 200, "turned")
    recipe = RECIPE.replace(epochs=1, learning_rate=0.03, options={"n_embed": 8, "n_hidden": 16})
    result = session.train(recipe, corpus, tmp_path / "run").metadata.result
    assert result["valid_nats"] > 2 * math.log(9) and result["outcome"] != "diverged"


def test_a_training_of_which_every_step_was_skipped_is_an_error(tmp_path):
    class Poison(Callback):
        def on_batch_start(self, state):
            state.model.embed.weight.register_hook(lambda gradient: gradient * torch.inf)

    recipe = RECIPE.replace(skip_nonfinite=True, epochs=1)
    corpus = make_corpus(b"one two three four five. " * 20, "few", "all")
    with pytest.raises(DivergedError, match="no step"):
        session.train(recipe, corpus, tmp_path / "run", [Poison()])

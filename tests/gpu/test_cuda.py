"""Training on a CUDA device: the numbers of a CPU, resuming, checkpoints, feeds, bf16, the compiled step, sampling."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from architectures import ARCHITECTURES, known_options

import charlm
from charlm.api import read_corpus
from charlm.data.generated_texts import human_numbers
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.models.counting import fit_counts
from charlm.recipe import Recipe
from charlm.training import session, setup
from charlm.training.loop import Callback, train_epoch
from charlm.training.trainer import Trainer

GRADIENTS = [name for name, architecture in ARCHITECTURES.items() if architecture.uses_gradients and name != "mine"]
TEXT = human_numbers("2000")
SMALL = {"n_embed": 16, "n_hidden": 32, "n_layers": 2, "head_size": 8, "window_size": 16, "n_heads": 2, "n_state": 8}
N_STEPS = 20


class StopAfter(Callback):
    """End a training after some steps, as a signal does, and keep the loss of each of them."""

    def __init__(self, n_steps=N_STEPS):
        self.n_steps, self.losses = n_steps, []

    def on_batch_end(self, state):
        self.losses.append(state.batch.loss.clone())
        state.stop = signal.SIGTERM if state.step >= self.n_steps else False


def recipe_of(name, device="cuda", dropout=0.0, **keys):
    options = known_options(name, SMALL)
    options |= {key: dropout for key in options if "dropout" in key}
    return Recipe().replace(
        model=name, options=options, device=device, batch_size=16, bptt=16, learning_rate=5e-3, seed=1, **keys
    )


def losses_of(recipe, n_steps=N_STEPS):
    """Return the losses of the first steps, (n_steps,), and the model."""
    trainer = Trainer.make(recipe, read_corpus(recipe, text=TEXT))
    state, stop = trainer.state, StopAfter(n_steps)
    fit_counts(state.model, trainer.train_ids, *trainer.symbol_kinds)
    while not state.stop:
        train_epoch(state, [setup.schedule_callback(trainer.recipe), stop])
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
    return torch.stack(stop.losses).cpu(), state.model


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_training_has_the_losses_of_a_cpu(name):
    ours, model = losses_of(recipe_of(name))
    theirs, _ = losses_of(recipe_of(name, "cpu"))
    assert model.device.type == "cuda"
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=0)
    assert ours[-3:].mean() < ours[:3].mean()


@pytest.mark.parametrize("feed", ["windows", "chunks", "stream"])
def test_every_feed_has_the_losses_of_a_cpu(feed):
    ours, _ = losses_of(recipe_of("rnn", feed=feed))
    theirs, _ = losses_of(recipe_of("rnn", "cpu", feed=feed))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=0)


def test_the_text_is_on_the_device():
    recipe = recipe_of("rnn")
    trainer = Trainer.make(recipe, read_corpus(recipe, text=TEXT))
    assert trainer.ids.device.type == "cuda"
    assert {part.device.type for part in trainer.state.feed.batch(0, 0)} == {"cuda"}


@pytest.mark.parametrize("name", ["gru-scratch", "min-gru", "mamba2", "transformer"])
def test_bf16_has_nearly_the_losses_of_float32(name):
    ours, _ = losses_of(recipe_of(name, bf16=True))
    theirs, _ = losses_of(recipe_of(name))
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=0)
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["rnn", "lstm", "awd-lstm", "lstm-ngram"])
@pytest.mark.parametrize("feed", ["chunks", "stream"])
def test_a_captured_step_has_the_losses_of_an_eager_one(name, feed, capfd):
    dropout = 0.2 if name == "awd-lstm" else 0.0
    ours, _ = losses_of(recipe_of(name, feed=feed, compile=True, dropout=dropout), 40)
    theirs, _ = losses_of(recipe_of(name, feed=feed, dropout=dropout), 40)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    assert "without it" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["gru-scratch", "min-gru", "mamba2", "transformer", "char3"])
def test_a_step_that_torch_compiles_has_the_losses_of_an_eager_one(name, capfd):
    ours, _ = losses_of(recipe_of(name, compile=True), 40)
    assert "without it" not in capfd.readouterr().err
    theirs, _ = losses_of(recipe_of(name), 40)
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=0)


def test_where_a_step_cannot_be_captured_the_training_continues(capfd):
    recipe = recipe_of("awd-lstm", dropout=0.2, compile=True)
    trainer = Trainer.make(recipe, read_corpus(recipe, text=TEXT))
    state, stop = trainer.state, StopAfter()
    state.metrics = {"maximum": lambda logits, targets: torch.tensor(logits.max().item(), device="cuda")}  # waits
    train_epoch(state, [stop])
    assert len(stop.losses) == N_STEPS
    assert capfd.readouterr().err.count("without it") == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.rand(2, device="cuda").unique().numel() == 2  # the generator is not that of a capture


@pytest.mark.parametrize("name", ["rnn", "gru", "gru-scratch", "awd-lstm", "transformer", "lstm-ngram"])
def test_a_resumed_training_ends_with_the_same_weights(name, tmp_path):
    """Without dropout between the layers of `nn.LSTM`, whose generator in cuDNN cannot be saved."""
    dropout = 0.2 if name in ("awd-lstm", "transformer") else 0.0
    recipe = recipe_of(name, dropout=dropout, epochs=2)
    corpus = read_corpus(recipe, text=TEXT)
    whole = session.train(recipe, corpus, tmp_path / "whole")
    session.train(recipe, corpus, tmp_path / "resumed", extra=[StopAfter(7)])
    resumed = session.train(recipe, corpus, tmp_path / "resumed", resume=lambda differences: None)
    for (key, ours), theirs in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_checkpoint_of_one_device_is_read_on_the_other(name, tmp_path):
    for device, other in (("cuda", "cpu"), ("cpu", "cuda")):
        recipe = recipe_of(name, device, epochs=1)
        corpus = read_corpus(recipe, text=TEXT)
        trained = session.train(recipe, corpus, tmp_path / device, extra=[StopAfter()])
        loaded = charlm.load(tmp_path / device / "last.safetensors", other)
        assert loaded.model.device.type == other
        text = TEXT[:500]
        assert loaded.bits_per_char(text) == pytest.approx(trained.bits_per_char(text), rel=1e-3)


@pytest.mark.parametrize("name", ["char3", "rnn", "gru-scratch", "lstm-ngram", "mamba2", "transformer"])
def test_a_model_on_the_device_writes_a_text(name, tmp_path):
    recipe = recipe_of(name, epochs=1)
    trained = session.train(recipe, read_corpus(recipe, text=TEXT), tmp_path / "run", extra=[StopAfter()])
    text = trained.sample(length=50, seed=1)
    assert len(text) == 50
    assert trained.sample(length=50, seed=1) == text
    assert trained.sample(length=50, seed=1, temperature=0) == charlm.load(
        tmp_path / "run" / "last.safetensors"
    ).sample(length=50, seed=1, temperature=0)


def test_evaluation_reads_lanes_on_the_device():
    recipe = recipe_of("gru")
    trainer = Trainer.make(recipe, read_corpus(recipe, text=TEXT))
    text = TextRange(trainer.ids, *trainer.corpus.bounds["valid"], trainer.corpus.vocab.bos_id)
    on_gpu = evaluate(trainer.state.model, text, n_lanes=4).nats_per_char
    trainer.state.model.cpu()
    assert evaluate(trainer.state.model, text, n_lanes=4).nats_per_char == pytest.approx(on_gpu, rel=1e-4)


def test_two_processes_train_on_two_devices(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device; two processes need two")
    (tmp_path / "text.txt").write_text(TEXT)
    line = "-m charlm train --corpus text.txt --model gru --n-hidden 32 --epochs 2 --batch-size 16 --name two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, *line.split()], cwd=tmp_path, check=True, env=os.environ, timeout=300)
    subprocess.run([sys.executable, *line.replace("two", "one").split()], cwd=tmp_path, check=True, timeout=300)
    two, one = (charlm.load(tmp_path / "checkpoints" / name / "best.safetensors") for name in ("two", "one"))
    assert two.bits_per_char(TEXT[:500]) == pytest.approx(one.bits_per_char(TEXT[:500]), rel=1e-2)

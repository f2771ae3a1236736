"""A training killed at any moment resumes and ends with bit-identical weights."""

import os
import random
import shutil
import signal
import threading
import time
import warnings

import pytest
import torch
import torch.utils.tensorboard  # noqa: F401  a forked process need not import it again
from tqdm import tqdm

from charlm.data.corpus import make_corpus
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.training import session

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 20).encode()
TRAININGS = {
    "awd-lstm": {"ema": 0.9, "options": {"n_embed": 6, "n_hidden": 12}},
    "gru": {"feed": "chunks", "options": {"n_embed": 6, "n_hidden": 12, "head_dropout": 0.2}},
    "transformer": {"options": {"n_embed": 8, "n_layers": 2, "head_size": 4, "window_size": 6, "dropout": 0.1}},
    "loop": {"n_context": 4, "batch_size": 80, "options": {"n_embed": 6, "n_hidden": 12}},
}


def recipe_of(name):
    common = {"model": name, "epochs": 5, "batch_size": 8, "bptt": 11, "save_steps": 2, "device": "cpu"}
    return Recipe().replace(**common | TRAININGS[name])


def fork(work):
    """Call a function in a new process and return its number; its exit code is 0 without an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later Pythons warn of threads, of which none does anything here
        child = os.fork()
    if child == 0:
        code = 1
        try:
            tqdm.set_lock(threading.RLock())  # its own is shared with this process, which would wait for one killed
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def final_weights(folder):
    """Return the last weights, the best weights, and the test loss."""
    last, (metadata, best) = checkpoint.read(folder / "last.safetensors"), checkpoint.read(folder / "best.safetensors")
    return {name: w for name, w in last[1].items() if "/" not in name}, best, metadata.result["test_nats"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
@pytest.mark.parametrize("n_kills", [6, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", TRAININGS)
def test_killed_at_random_moments_a_training_ends_with_bit_identical_weights(name, n_kills, tmp_path):
    recipe, corpus = recipe_of(name), make_corpus(TEXT, "cats")
    moments, folder = random.Random(name), tmp_path / "killed"

    def train_or_resume():
        can_resume = (folder / "last.safetensors").exists()
        if not can_resume:  # killed before anything was saved
            shutil.rmtree(folder, ignore_errors=True)
        session.train(recipe, corpus, folder, resume=(lambda differs: None) if can_resume else None)

    session.train(recipe, corpus, tmp_path / "warm-up")
    since = time.perf_counter()
    session.train(recipe, corpus, tmp_path / "whole")
    seconds = time.perf_counter() - since
    expected = final_weights(tmp_path / "whole")
    assert checkpoint.read(tmp_path / "whole" / "last.safetensors")[0].counters["step"] >= 50

    n_killed = n_finished = 0
    while n_killed < n_kills or n_finished == 0:
        child = fork(train_or_resume)
        if n_killed < n_kills:
            time.sleep(moments.uniform(0, 0.7 * seconds))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL)
        for file in folder.glob("*.safetensors"):
            checkpoint.read(file)  # no file is ever damaged
        if code == 0:
            torch.testing.assert_close(final_weights(folder), expected, rtol=0, atol=0)
            assert not list(folder.glob(".*.tmp"))
            shutil.rmtree(folder)
            n_finished += 1
        else:
            n_killed += 1

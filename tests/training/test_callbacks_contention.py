"""Threads that other work keeps waiting are told of, once."""

from types import SimpleNamespace

import pytest
import torch

from charlm.training.callbacks import WarnOversubscription
from charlm.training.callbacks.contention import FIRST, INTERVAL, seconds_of_work


class Later:
    """A training after some seconds."""

    def __init__(self, seconds, device="cpu"):
        self.timer = SimpleNamespace(seconds=seconds)
        self.model = torch.nn.Identity()
        self.model.device = torch.device(device)


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def looks(
    times_as_long, seconds=(0, FIRST, FIRST + 1, 2 * FIRST, INTERVAL, 2 * INTERVAL - 1, 2 * INTERVAL), device="cpu"
):
    """Return with how many threads was measured; at each look two take so many times as long as one."""
    seen, answers = [], iter(times_as_long)
    contention = WarnOversubscription(
        lambda n_threads: seen.append(n_threads) or (next(answers) if n_threads > 1 else 1.0)
    )
    for each in seconds:
        contention.on_batch_end(Later(each, device))
    return seen


def test_it_is_said_once_with_what_to_do(two_threads, capsys):
    assert looks([61.7, 1.8]) == [2, 1] * 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "another process occupies a core, which makes 2 threads slower than one" in err
    assert err.count("OMP_NUM_THREADS=1") == 1 == err.count("\n")


def test_as_long_as_threads_help_it_looks_now_and_then_and_says_nothing(two_threads, capsys):
    assert looks([0.5, 61.7, 1.1, 61.7]) == [2, 1] * 4  # now and then another process has a core for a moment
    assert capsys.readouterr().err == ""


def test_one_thread_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert looks([61.7]) == []


def test_a_gpu_is_not_asked(two_threads):
    assert looks([61.7], device="cuda") == []


def test_a_look_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    assert 0 < seconds_of_work(2) < 10
    assert torch.get_num_threads() == before

"""CPU oversubscription is reported once."""

from types import SimpleNamespace

import pytest
import torch

from charlm.training.callbacks import WarnOversubscription
from charlm.training.callbacks.oversubscription import FIRST, INTERVAL, seconds_of_work


class Later:
    """A training after some seconds."""

    def __init__(self, seconds, device="cpu"):
        self.timer = SimpleNamespace(seconds=seconds)
        self.model = torch.nn.Identity()
        self.model.device = torch.device(device)


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


TIMES = (0, FIRST, FIRST + 1, 2 * FIRST, INTERVAL, 2 * INTERVAL - 1, 2 * INTERVAL)  # seconds of training


def checks(slowdowns, seconds=TIMES, device="cpu"):
    """Return the numbers of threads measured; at each check, two threads take `slowdowns` times as long as one."""
    seen, answers = [], iter(slowdowns)
    contention = WarnOversubscription(
        lambda n_threads: seen.append(n_threads) or (next(answers) if n_threads > 1 else 1.0)
    )
    for each in seconds:
        contention.on_batch_end(Later(each, device))
    return seen


def test_the_warning_is_printed_once_with_the_remedy(two_threads, capsys):
    assert checks([61.7, 1.8]) == [2, 1] * 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "another process occupies a core, which makes 2 threads slower than one" in err
    assert err.count("OMP_NUM_THREADS=1 charlm train --resume RUN") == 1 == err.count("\n")


def test_there_is_no_warning_while_threads_help(two_threads, capsys):
    assert checks([0.5, 61.7, 1.1, 61.7]) == [2, 1] * 4  # one slow check is not enough
    assert capsys.readouterr().err == ""


def test_one_thread_is_not_checked(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert checks([61.7]) == []


def test_training_on_a_gpu_is_not_checked(two_threads):
    assert checks([61.7], device="cuda") == []


def test_a_check_does_not_change_the_number_of_threads():
    before = torch.get_num_threads()
    assert 0 < seconds_of_work(2) < 10
    assert torch.get_num_threads() == before

"""Hostile but consistent checkpoints: every command that opens one uses it or refuses it, in little time and memory."""

import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import hostile
import pytest

from charlm.api import read_corpus
from charlm.data.generated_texts import human_numbers
from charlm.models import MODELS
from charlm.recipe import Recipe
from charlm.training import session
from charlm.training.loop import Callback

SHORT = {"gru": 4, "ngram": 4, "lstm-ngram": 2}  # changed files in the short test
N_LONG = 20  # of each architecture
SECONDS = 10  # of a command, on a busy machine
READERS = {
    "info": "info run/last.safetensors",
    "info as JSON": "info run/last.safetensors --json",
    "sample": "sample run/last.safetensors --length 20 --seed 1",
    "sample several": "sample run/last.safetensors --length 20 --num 2 --prime 1",
    "sample with PyTorch": "sample run/last.safetensors --length 20 --prime 12 --dynamic sgd",
    "eval": "eval run/last.safetensors",
    "eval on another text": "eval run/last.safetensors --corpus text.txt --json",
    "eval dynamically": "eval run/last.safetensors --corpus text.txt --dynamic sgd",
    "mixture": "eval run/last.safetensors run/last.safetensors --corpus text.txt --weights 1,2",
    "export": "export run/last.safetensors new.safetensors --force",
    "export half": "export run/last.safetensors half.safetensors --half --force",
    "begin with": "train --from run/last.safetensors --corpus text.txt --epochs 1 --checkpoints other --name new",
    "resume": "train --resume run",
    "score": "score run/last.safetensors --corpus text.txt",
    "next": "next run/last.safetensors --prime 1",
    "page": "export run/last.safetensors page.html --force",
    "hub folder": "export run/last.safetensors hub --hub --force",
}


ARCHITECTURES = list(MODELS)


class Interrupt(Callback):
    """Stop after a step, as a signal does."""

    def on_batch_end(self, state):
        if state.step == 2:
            state.stop = signal.SIGINT


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """Return a working directory with a text, and an interrupted run of each architecture."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(human_numbers("40"))
        Path("runs").mkdir()
        for name in ARCHITECTURES if request.config.getoption("markexpr") != "not long" else SHORT:
            recipe = Recipe().replace(
                model=name, options=hostile.small_options(name), corpus=["text.txt"], batch_size=2, bptt=8, epochs=1
            )
            recipe = recipe if name == "ngram" or "ngram" in name else recipe.replace(ema=0.9, patience=2)
            session.train(recipe, read_corpus(recipe), Path("runs") / name, [Interrupt()])
        yield folder


@pytest.fixture
def bounded():
    """Fail if the test needs more than 500 MB of additional memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def read_all(file, name, label, exit_code, capsys):
    """Run all commands on a file; return whether it was accepted."""
    codes = {}
    for reader, line in READERS.items():
        shutil.rmtree("run", ignore_errors=True)
        shutil.rmtree("other", ignore_errors=True)
        os.mkdir("run")
        Path("run/last.safetensors").write_bytes(file.to_bytes())
        shutil.copy(f"runs/{name}/metrics.jsonl", "run/metrics.jsonl")
        toml = hostile.recipe_of(file.metadata, Path(f"runs/{name}/recipe.toml").read_text())
        Path("run/recipe.toml").write_text(toml, "utf-8", "surrogatepass")
        since = time.process_time()
        code = codes[reader] = exit_code(line)
        seconds = time.process_time() - since
        out, err = capsys.readouterr()
        case = f"{name}: {label}: {reader}: {code}: {err.strip().splitlines()[-1:]}"
        assert code in (0, 1, 2, 65, 66), case
        assert "--debug" not in err and "Traceback" not in err, case  # another exception than a CharlmError
        assert seconds < SECONDS, f"{case}: {seconds:.1f} s"
        if code:
            assert len(err.strip().splitlines()[-1]) < 1000, case
        if code == 65:
            assert out == "", case
    assert codes["info"] in (0, 2, 65), codes
    assert codes["info"] == codes["info as JSON"], codes
    if codes["info"] == 65:
        assert {code for reader, code in codes.items() if reader != "resume"} == {65}, f"{name}: {label}: {codes}"
    return codes["info"] == 0


@pytest.mark.parametrize("name", [n if n in SHORT else pytest.param(n, marks=pytest.mark.long) for n in ARCHITECTURES])
def test_the_unchanged_file_is_accepted_by_every_command(folder, name, exit_code, capsys):
    file = hostile.File.read(f"runs/{name}/last.safetensors")
    assert read_all(file, name, "unchanged", exit_code, capsys)


def n_accepted(name, n, exit_code, capsys):
    file = hostile.File.read(f"runs/{name}/last.safetensors")
    cases = list(hostile.mutants(file))
    cases = random.Random(name).sample(cases, min(n, len(cases)))
    accepted = tried = 0
    for label, make in cases:
        try:
            changed = make()
            changed.to_bytes()
        except Exception:  # no such file can be made
            continue
        tried += 1
        accepted += read_all(changed, name, label, exit_code, capsys)
    return tried, accepted


@pytest.mark.parametrize("name", SHORT)
def test_hostile_files_are_refused_or_used(folder, bounded, name, exit_code, capsys):
    tried, _ = n_accepted(name, SHORT[name], exit_code, capsys)
    assert tried


@pytest.mark.long
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_many_hostile_files_are_refused_or_used(folder, bounded, name, exit_code, capsys):
    tried, accepted = n_accepted(name, N_LONG, exit_code, capsys)
    assert 0 < accepted < tried
    with capsys.disabled():
        print(f"\n{name}: {tried} files, {accepted} accepted")

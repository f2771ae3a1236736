"""Shared fixtures: one torch thread, seeds, texts, small trainings, the command line."""

import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch
from architectures import EXAMPLE
from torch import nn

from charlm.cli import main
from charlm.data import named_texts
from charlm.data.feeds import Stream
from charlm.data.generated_texts import human_numbers
from charlm.models import MODELS, CharModel, build
from charlm.training.loop import TrainState
from charlm.training.timer import Timer

os.environ["XDG_DATA_HOME"] = "no-such-folder"  # without the texts that the user of this machine has added
torch.set_num_threads(1)  # two threads on a busy machine are ten times as slow

# A shell ignores SIGINT in background jobs, nohup ignores SIGHUP; commands that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in {"SIGTERM", "SIGHUP"} & set(signal.__dict__):
    signal.signal(getattr(signal, name), signal.SIG_DFL)

CYCLE = (1, 1, 2, 1, 3, 2, 3)  # the next symbol depends on the last two


class FixedProbs(CharModel):
    """Predict each character with fixed probabilities, (V,)."""

    def __init__(self, probs):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(probs, dtype=torch.float64).log())
        self.head = nn.Identity()

    def features(self, chars, state=None):
        return self.logits.expand(*chars.shape, -1), None


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def nietzsche():
    """Return the path of the Nietzsche text, without a download; skip the test if it is missing."""
    for folder in named_texts.search_path():
        path = folder / "nietzsche.txt"
        if path.is_file():
            return path.resolve()
    pytest.skip("nietzsche.txt was not found; set CHARLM_CORPORA to a folder that contains it")


@pytest.fixture
def cycle():
    """Return a function that repeats CYCLE to a text of n characters."""
    return lambda n: torch.tensor(CYCLE).repeat(n // len(CYCLE) + 1)[:n]


@pytest.fixture(scope="session")
def fixed_probs():
    return FixedProbs


@pytest.fixture
def example_model(monkeypatch):
    """List the example of README.md in MODELS as "mine"."""
    monkeypatch.setitem(MODELS, "mine", EXAMPLE)


@pytest.fixture
def make_run(cycle):
    """Return a function that puts a small training together: 7 batches of 2 x 4 characters an epoch."""

    def make(name="rnn", feed=None, n_epochs=2, minutes=None, rate=0.01, **options):
        model = build(name, 4, **{"n_embed": 4, "n_hidden": 8} | options)
        feed = feed or Stream(cycle(57), bptt=4, batch_size=2)
        return TrainState(model, feed, torch.optim.Adam(model.parameters(), rate), n_epochs, Timer(minutes))

    return make


def run_line(line):
    """Run a command line and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(line))
    return stop.value.code


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """Return a folder with a text and the module's RUNS, each trained by the command line TRAIN with its options."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(human_numbers("200"))
        for name, options in request.module.RUNS.items():
            assert run_line(f"{request.module.TRAIN} {options} --name {name}") == 0
    return folder


@pytest.fixture(scope="session")
def exit_code():
    """Return a function that runs a command line and returns its exit code."""
    return run_line


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """Return a copy of the folder `trained`, as the working directory."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def call(home, exit_code, capsys):
    """Return a function that runs a command line in `home` successfully and returns stdout and stderr."""

    def called(line):
        code = exit_code(line)
        out, err = capsys.readouterr()
        assert code == 0, err
        return out, err

    return called


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Return a browser; skip the test where Playwright or a browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a file or an address; it returns the page, and its errors, messages and requests."""
    contexts = []

    def open_file(path, **options):
        contexts.append(browser.new_context(**options))
        page, events = contexts[-1].new_page(), []
        page.on("pageerror", lambda error: events.append(f"error: {error}"))
        page.on("console", lambda message: events.append(f"console: {message.text}"))
        page.on("request", lambda request: events.append(f"request: {request.url}"))
        page.goto(path if isinstance(path, str) else path.as_uri())
        return page, events

    yield open_file
    for context in contexts:
        context.close()

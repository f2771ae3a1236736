"""What tests share: one torch thread, a seed, the Nietzsche text, a text to learn, a small training."""

import pytest
import torch
from torch import nn

from charlm import library
from charlm.feeds import Stream
from charlm.fit import Run
from charlm.models import CharModel, build

torch.set_num_threads(1)  # with two, a loaded machine takes ten times as long

CYCLE = (1, 1, 2, 1, 3, 2, 3)  # what follows a symbol depends on the one before it, too


class FixedProbs(CharModel):
    """Predict every character with the same probabilities, (V,)."""

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
    """Return the path of the Nietzsche text; nothing is downloaded."""
    for folder in library.folders():
        path = folder / "nietzsche.txt"
        if path.is_file():
            return path.resolve()
    pytest.skip("nietzsche.txt is in none of the folders of the library; CHARLM_CORPORA can name another")


@pytest.fixture
def cycle():
    """Return a function that repeats seven symbols (indices 1 to 3) to a text of n characters."""
    return lambda n: torch.tensor(CYCLE).repeat(n // len(CYCLE) + 1)[:n]


@pytest.fixture(scope="session")
def fixed_probs():
    return FixedProbs


@pytest.fixture
def make_run(cycle):
    """Return a function that puts a small training together: 7 batches of 2 x 4 characters an epoch."""

    def make(name="rnn", feed=None, n_epochs=2, minutes=None, rate=0.01, accumulate=1, **options):
        model = build(name, 4, **{"n_embed": 4, "n_hidden": 8} | options)
        feed = feed or Stream(cycle(57), bptt=4, batch_size=2)
        return Run(model, feed, torch.optim.Adam(model.parameters(), rate), n_epochs, minutes, accumulate=accumulate)

    return make

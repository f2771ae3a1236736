"""The architectures that contract tests run over: those of MODELS, and the example of README.md.

`pytestmark = pytest.mark.usefixtures("example_model")` lists the example as "mine" during a module's tests.
"""

import re
from pathlib import Path

import pytest
import torch

from charlm.models import MODELS, CharModel, CountingModel, build, options_of

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def example_class():
    """Return the class that README.md gives as an example."""
    source = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class Mine" in block)
    names = {"CharModel": CharModel, "torch": torch, "nn": torch.nn, "Tensor": torch.Tensor}
    exec(source, names)
    return names["Mine"]


EXAMPLE = example_class()
with pytest.MonkeyPatch.context() as patch:
    patch.setitem(MODELS, "mine", EXAMPLE)
    ARCHITECTURES = dict(MODELS)
    OPTIONS = {name: options_of(name) for name in MODELS}


def known_options(name, options):
    """Return those of the options that an architecture has, and dropout 0: random masks differ from call to call."""
    return {key: 0.0 for key in OPTIONS[name] if "dropout" in key} | {
        key: options[key] for key in options.keys() & OPTIONS[name].keys()
    }


def make_model(name, vocab_size, **options):
    """Return a model with random weights, and counts of a random text if it counts."""
    model = build(name, vocab_size, **options)
    if isinstance(model, CountingModel):
        model.fit_counts(torch.randint(vocab_size, (500,)), torch.arange(vocab_size, dtype=torch.uint8) % 4)
    return model

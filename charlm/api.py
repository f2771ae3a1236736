"""What `import charlm` offers: train and load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from charlm import recipe
from charlm.data import named_texts
from charlm.data.corpus import Corpus, make_corpus
from charlm.errors import DataError, UsageError
from charlm.generation.language_model import LanguageModel
from charlm.recipe import Recipe
from charlm.storage import runs
from charlm.training import distributed, launch, session
from charlm.training.setup import choose_device


def load(name: str | Path | None = None, device: str = "cpu") -> LanguageModel:
    """Load a trained model.

    Args:
        name: a checkpoint file, a run in `checkpoints/`, or "nietzsche" for the model in the box; None takes the
            newest run, else the box.
        device: "cpu", "cuda", "mps", or "auto" for what is there.

    Raises:
        InputNotFoundError: there is no such model.
        CheckpointError: the file is damaged or foreign.
        UsageError: the device is not there.
    """
    place = choose_device(device)
    return LanguageModel.load(runs.find_checkpoint(None if name is None else str(name)), place)


def read_corpus(choices: Recipe) -> Corpus:
    """Read the texts that a recipe names, joined by line breaks, and split them as it says.

    Raises:
        InputNotFoundError: a text is not there.
        DataError: a text cannot be used.
        UsageError: bytes, and something that is for characters.
    """
    if choices.bytes and (choices.lower or choices.min_count > 1):
        raise UsageError("bytes are taken as they are, all 256; leave out --lower and --min-count, or --bytes")
    name = " + ".join(choices.corpus)
    pieces = named_texts.open_texts(choices.corpus)
    text = make_corpus(pieces, name, choices.split, choices.bytes, choices.lower, choices.min_count)
    if len(text.vocab) == 1:  # nothing but what stands for the unknown
        raise DataError(
            f"{name}: no character occurs {choices.min_count} times in what is trained on; lower --min-count"
        )
    return text


def train(
    corpus: str | Path = named_texts.DEFAULT_TEXT,
    base: str | Path | Recipe | None = None,
    folder: str | Path | None = None,
    **changes: Any,
) -> LanguageModel:
    """Train a model on a text. In a program that `torchrun` started, all processes train it together.

    Args:
        corpus: a name of the library, a file or a folder of .txt files.
        base: a recipe, or the name or file of one; None takes `recipe.default`.
        folder: keeps weights, metrics and TensorBoard events; it must not exist. None keeps nothing.
        changes: keys of the recipe to change: `model="gru"`, `epochs=3`, `options={"n_hidden": 512}`.

    Returns:
        the trained model; `about.result` has its nats per character on validation and test.

    Raises:
        CharlmError: a choice or a text that cannot be used; the message says how to mend it.
    """
    start = recipe.load(str(base)) if isinstance(base, str | Path) else base or recipe.default(changes)
    choices = start.replace(**{"corpus": [str(corpus)]} | changes)
    with launch.process_group():
        with distributed.rank0_first():
            text = read_corpus(choices)
        return session.train(choices, text, None if folder is None else Path(folder))

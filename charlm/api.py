"""The Python interface of the package: `charlm.load` and `charlm.train`."""

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
        name: a checkpoint file, a run in `checkpoints/`, or "nietzsche" for the packaged model; None takes the newest
            run, or the packaged model if there is none.
        device: "cpu", "cuda", "mps", or "auto" for the fastest one available.

    Raises:
        InputNotFoundError: there is no such model.
        CheckpointError: the file is damaged or not a checkpoint.
        UsageError: the device is not available.
    """
    path = runs.find_checkpoint(None if name is None else str(name))
    return LanguageModel.load(path, choose_device(device))


def read_corpus(options: Recipe) -> Corpus:
    """Read the texts of a recipe, joined by line breaks, and split them.

    Raises:
        InputNotFoundError: a text does not exist.
        DataError: a text is invalid.
        UsageError: an option for characters together with `bytes`.
    """
    if options.bytes and (options.lower or options.min_count > 1):
        raise UsageError("--lower and --min-count need characters; leave them out, or leave out --bytes")
    name = " + ".join(options.corpus)
    texts = named_texts.open_texts(options.corpus)
    corpus = make_corpus(texts, name, options.split, options.bytes, options.lower, options.min_count)
    if len(corpus.vocab) == 1:  # only the unknown symbol
        raise DataError(
            f"{name}: no character occurs {options.min_count} times in the training part; lower --min-count"
        )
    return corpus


def train(
    corpus: str | Path = named_texts.DEFAULT_TEXT,
    base: str | Path | Recipe | None = None,
    folder: str | Path | None = None,
    **changes: Any,
) -> LanguageModel:
    """Train a model on a text. In a program started by `torchrun`, all processes train one model.

    Args:
        corpus: a named text, a file, or a folder of .txt files.
        base: a recipe, or the name or file of one; None takes `recipe.default`.
        folder: new run folder for weights, metrics and TensorBoard events; None writes nothing.
        changes: recipe keys to replace: `model="gru"`, `epochs=3`, `options={"n_hidden": 512}`.

    Returns:
        the trained model; `metadata.result` has its loss on the validation and test part, nats per character.

    Raises:
        CharlmError: an invalid option or text; the message gives the remedy.
    """
    start = recipe.load(str(base)) if isinstance(base, str | Path) else base or recipe.default(changes)
    options = start.replace(**{"corpus": [str(corpus)]} | changes)
    with launch.process_group():
        with distributed.rank0_first():
            text = read_corpus(options)
        return session.train(options, text, None if folder is None else Path(folder))

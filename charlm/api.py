"""The Python interface of the package: `charlm.load` and `charlm.train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charlm import models
from charlm.data import named_texts
from charlm.data.corpus import Corpus, make_corpus
from charlm.errors import DataError, InputNotFoundError, UsageError
from charlm.generation.language_model import LanguageModel
from charlm.messages import say
from charlm.options.arguments import checked_name, checked_path, checked_text
from charlm.recipe import Recipe
from charlm.recipes.files import MAX_FILE_CHARS
from charlm.storage import runs
from charlm.storage.kept_counts import known_vocab
from charlm.storage.schema import MAX_ENTRIES
from charlm.storage.transfer import resolve_recipe
from charlm.training import distributed, launch, session
from charlm.training.setup import choose_device, fill_defaults
from charlm.training.text_defaults import fit_to_text


def load(name: str | Path | None = None, device: str = "cpu", model: str | None = None) -> LanguageModel:
    """Load a trained model.

    Args:
        name: a checkpoint file, a run in `checkpoints/`, or "nietzsche" for the packaged model; None takes the newest
            finished run, or the packaged model if there is none.
        device: "cpu", "cuda", "mps", or "auto" for the fastest one available.
        model: "mine.py:MyRNN" imports the class of a model whose architecture is not in the package.

    Raises:
        InputNotFoundError: there is no such model.
        CheckpointError: the file is damaged or not a checkpoint.
        UsageError: the device is not available, or the model's architecture was not imported.
    """
    if model is not None:
        models.use(checked_text("model", model))
    path = runs.find_checkpoint(None if name is None else str(checked_path("name", name)))
    return LanguageModel.load(path, choose_device(checked_text("device", device)))


def read_corpus(options: Recipe, text: str | None = None, run: Path | None = None) -> Corpus:
    """Read the texts of a recipe, joined by line breaks, and split them.

    Args:
        options: all options of the text.
        text: a text in memory, used instead of those that the recipe names.
        run: folder of a run that is resumed.

    Raises:
        InputNotFoundError: a text, or the model whose counts are kept, does not exist.
        DataError: a text is invalid.
        UsageError: options that exclude one another; they are checked before a text is read.
    """
    split = fill_defaults(options, choose_device(options.device)).split
    assert split is not None  # see `fill_defaults`
    if options.bytes and (options.lower or options.min_count > 1):
        raise UsageError("--lower and --min-count need characters; leave them out, or leave out --bytes")
    max_chars = MAX_FILE_CHARS // 2  # in recipe.toml, which also has quotes and escapes
    if (n := len(options.corpus)) > MAX_ENTRIES or sum(map(len, options.corpus)) > max_chars:
        raise UsageError(f"corpus has {n:,} names, more than a checkpoint can store; name a folder, or join the files")
    name = named_texts.joined_names(options.corpus) if text is None else "text in memory"
    data = named_texts.open_texts(options.corpus) if text is None else text.encode("utf-8", "surrogatepass")
    known = known_vocab(options, run)
    corpus = make_corpus(data, name, split, options.bytes, options.lower, options.min_count, known=known)
    if len(corpus.vocab) == 1:  # only the unknown symbol
        raise DataError(
            f"{name}: no character occurs {options.min_count} times in the training part; lower --min-count"
        )
    return corpus


def read_recipe_text(options: Recipe) -> tuple[Recipe, Corpus]:
    """Read the texts of a recipe; one that names none gets the default text, or the fallback if that is unavailable.

    Returns:
        the recipe with the names of its texts and their split, and the texts; see `read_corpus` for the errors.
    """
    named = options if options.corpus else options.replace(corpus=[named_texts.DEFAULT_TEXT])
    try:
        corpus = read_corpus(named)
        return named.replace(split=corpus.split), corpus
    except InputNotFoundError as error:
        if options.corpus:
            raise
        reason = str(error).split(";")[0]
    say(f"{reason}; using {named_texts.FALLBACK_TEXT} instead")
    named = options.replace(corpus=[named_texts.FALLBACK_TEXT])
    corpus = read_corpus(named)
    return named.replace(split=corpus.split), corpus


def _names(corpus: object) -> list[str]:
    """Return the argument `corpus` of `train` as a list of names.

    Raises:
        UsageError: it is neither a name nor a list of names, or the list is empty.
    """
    listed = list(corpus) if isinstance(corpus, (list, tuple)) else [corpus]
    if not listed:
        raise UsageError("corpus is an empty list; name a text, or leave it out")
    return [checked_name("corpus", name) for name in listed]


def train(
    corpus: str | Path | Sequence[str | Path] | None = None,
    base: str | Path | Recipe | None = None,
    folder: str | Path | None = None,
    text: str | None = None,
    **changes: Any,
) -> LanguageModel:
    """Train a model on a text. In a program started by `torchrun`, all processes train one model.

    Args:
        corpus: one or several named texts, files, or folders of .txt files. By default the text of `base` or of the
            model in `init_from`, else Nietzsche.
        base: a recipe, or the name or file of one; None takes defaults for the size of the text.
        folder: new run folder for weights, metrics and TensorBoard events; None writes nothing.
        text: the text itself, instead of `corpus`.
        changes: recipe keys to replace: `model="gru"`, `epochs=3`, `options={"n_hidden": 512}`. With
            `init_from="nietzsche"` the training begins with that model's weights.

    Returns:
        the trained model; `metadata.result` has its loss on the validation and test part, nats per character.

    Raises:
        CharlmError: an invalid option or text; the message gives the remedy.
    """
    if corpus is not None and text is not None:
        raise UsageError("corpus and text are both given; leave out one of them")
    if corpus is not None:
        changes["corpus"] = _names(corpus)
    if text is not None:
        checked_text("text", text)
        changes["corpus"] = ["-"]  # like standard input: a text that cannot be read again
    if isinstance(changes.get("model"), str):
        models.use(changes["model"])
    folder = None if folder is None else checked_path("folder", folder)
    without_base = base is None
    if isinstance(base, Recipe):
        base = base.replace(**changes)
        if base.init_from is not None and not base.corpus:
            base = base.replace(corpus=resolve_recipe(None, {"init_from": base.init_from}).corpus)
    else:
        base = resolve_recipe(None if base is None else str(checked_path("base", base)), changes)
    options = base if base.corpus else base.replace(corpus=[named_texts.DEFAULT_TEXT])
    with launch.process_group():
        with distributed.rank0_first():
            data = read_corpus(options, text)
        if without_base:
            options, _ = fit_to_text(options, {*changes, *changes.get("options", {})}, data)
        return session.train(options, data, folder)

"""The training text of a model, found again by its recipe."""

from __future__ import annotations

from charlm.data import named_texts
from charlm.data.corpus import Corpus, make_corpus
from charlm.errors import CharlmError, DataError, UsageError
from charlm.storage.checkpoint import Metadata


def training_text(metadata: Metadata, purpose: str) -> Corpus:
    """Read the text that a model was trained on, split as then.

    Args:
        metadata: of the model.
        purpose: the option that needs the text, for messages.

    Raises:
        CharlmError: the text is not there, cannot be read again, or has changed.
    """
    recipe, source = metadata.recipe, metadata.corpus.get("name", "")
    if not recipe.get("corpus") or "-" in recipe["corpus"]:
        raise UsageError(f"{purpose} needs the training text, which was read from standard input; leave out {purpose}")
    try:
        texts = named_texts.open_texts(recipe["corpus"])
        text = make_corpus(
            texts, source, recipe["split"], metadata.is_bytes, recipe["lower"], vocab=metadata.vocab, min_chars=1
        )
    except CharlmError as error:
        remedy = f"{purpose} needs the training text; put it there, or leave out {purpose}"
        raise type(error)(f"{error}; {remedy}") from None
    if text.sha256 != metadata.corpus.get("sha256"):
        raise DataError(
            f"{source}: not the text that the model was trained on (SHA-256 differs), which {purpose} needs; "
            f"restore that text, or leave out {purpose}"
        )
    return text

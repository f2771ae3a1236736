"""Scoring of texts by trained models: the text that a command line names, as each model reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from charlm.data import named_texts
from charlm.data.byte_stream import ByteStream
from charlm.data.encoding import decode_stream
from charlm.data.feeds import to_device_if_fits
from charlm.data.vocab import Codepoints
from charlm.errors import InputNotFoundError, UsageError
from charlm.evaluation.protocol import TextRange
from charlm.experiments.evaluate import part_bounds
from charlm.experiments.trained_models import Announce, TrainedModel, read_text, sources_of
from charlm.inspection.scores import N_LIKELY, Block, score_blocks
from charlm.storage import runs
from charlm.storage.file_format import is_checkpoint


@dataclass(frozen=True, eq=False)
class TextToScore:
    """A text, or a part of one, as several models read it.

    Attributes:
        models: that score it.
        name: of the text.
        part: "train", "valid", "test" or "all".
        stream: bytes of the whole text.
        ranges: its characters for each model.
        is_bytes: the models' symbols are bytes.
        is_lower: the models read lower case.
    """

    models: Sequence[TrainedModel]
    name: str
    part: str
    stream: ByteStream
    ranges: list[TextRange]
    is_bytes: bool
    is_lower: bool

    def codepoints(self) -> Iterator[Codepoints]:
        """Yield the characters to score, in blocks."""
        position, first, stop = 0, self.ranges[0].first, self.ranges[0].stop
        for block in decode_stream(self.stream, self.name, self.is_bytes, self.is_lower):
            inside = block[max(0, first - position) : max(0, stop - position)]
            position += len(block)
            if len(inside):
                yield inside

    def blocks(self, n_likely: int = N_LIKELY) -> Iterator[Block]:
        """Score the text; see `score_blocks`."""
        return score_blocks([trained.model for trained in self.models], self.ranges, self.codepoints(), n_likely)


def open_text(
    models: Sequence[TrainedModel], sources: Sequence[str], part: str | None, announce: Announce
) -> TextToScore:
    """Open a text for scoring.

    Args:
        models: of one kind: all of bytes or all of characters, all in lower case or none.
        sources: names, files, folders or "-"; empty for the text that the first model was trained on.
        part: "train", "valid", "test" or "all"; None takes the held-out part, or all of another text.
        announce: receives messages.

    Raises:
        CharlmError: a text, an option or a model that cannot be used.
    """
    first, *others = models
    kinds = {(trained.model.metadata.is_bytes, trained.model.metadata.is_lower) for trained in models}
    if len(kinds) > 1:
        raise UsageError("models of bytes and of characters, or of lower case and not, cannot score one text together")
    names = sources_of(first, sources)
    stream = named_texts.open_texts(names)
    corpus = read_text(first, sources, announce, stream)
    part, start, stop = part_bounds(first, corpus, part, is_other=bool(sources))
    corpora = [corpus, *(read_text(trained, names, announce, stream) for trained in others)]
    ranges = [
        TextRange(to_device_if_fits(corpus.ids, trained.model.model.device), start, stop, corpus.vocab.bos_id)
        for trained, corpus in zip(models, corpora, strict=True)
    ]
    is_bytes, is_lower = kinds.pop()
    return TextToScore(models, corpus.name, part, stream, ranges, is_bytes, is_lower)


def split_arguments(arguments: Sequence[str], folder: Path) -> tuple[Sequence[str], str | None]:
    """Split the arguments of `charlm score` into models and a text.

    The last argument is a text if it is "-", or a file or folder that is neither a run nor a checkpoint.

    Args:
        arguments: as given.
        folder: folder of the runs.

    Raises:
        InputNotFoundError: the last argument is neither a model nor a text.
    """
    if not arguments:
        return (), None
    *first, last = arguments
    path = Path(last)
    if last == "-" or (path.is_file() and not is_checkpoint(path)):
        return first, last
    try:
        runs.find_checkpoint(last, folder)
    except InputNotFoundError as error:
        if path.exists():
            return first, last
        raise InputNotFoundError(f"no text file {last!r}, and {error}") from None
    return arguments, None


def confusion(files: Sequence[str], source: str, best: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count, for each folder directly below `source`, how many of its files each model predicts best.

    Args:
        files: below `source`, or `source` itself.
        source: a folder or a file.
        best: name of the best model of each file.
    """
    counts: dict[str, dict[str, int]] = {}
    for file, name in zip(files, best, strict=True):
        parts = Path(file).relative_to(source).parts if file != source else ()
        row = counts.setdefault(parts[0] if len(parts) > 1 else ".", {})
        row[name] = row.get(name, 0) + 1
    return counts

"""Items of a text with one item a line, such as names or titles: sampled line by line, each whole and no two equal."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from statistics import median
from typing import Any

from charlm.data.corpus import Corpus
from charlm.data.vocab import Vocab
from charlm.errors import DataError, UsageError
from charlm.generation.generator import TextGenerator
from charlm.generation.line_limit import max_line
from charlm.generation.sampler import generate_ids, sampling_params, uniform_stream
from charlm.options.arguments import checked_text
from charlm.options.ranges import checked_number

MAX_ITEM = 200  # characters
MAX_DRAWS = 50  # lines sampled for each item asked for
N_JUDGED = 20  # fewer lines say nothing about their lengths
WRAPPED = 0.75  # in wrapped prose the median line has at least this fraction of the longest one's length


def training_items(corpus: Corpus) -> set[str]:
    """Return the lines of the training part of a text.

    Raises:
        DataError: the text does not have one item a line.
    """
    lines = _lines(corpus.vocab, corpus.part("train").tolist())
    check_items(lines, corpus.name)
    return set(lines)


def _lines(vocab: Vocab, ids: Iterable[int]) -> list[str]:
    return [line for line in vocab.decode(ids).split("\n") if line]


def check_items(lines: Sequence[str], name: str) -> None:
    """Check that lines are items of a list, not prose.

    Raises:
        DataError: a line is too long, or the lines are those of wrapped prose.
    """
    longest = max(map(len, lines), default=0)
    if longest > MAX_ITEM:
        raise DataError(
            f"{name}: has lines of up to {longest} characters, so it is not a list of items; leave out --lines"
        )
    if len(lines) >= N_JUDGED and longest > 40 and median(map(len, lines)) > WRAPPED * longest:
        raise DataError(f"{name}: its lines are those of wrapped prose, not items of a list; leave out --lines")


def sample_items(
    model: TextGenerator,
    n_items: int,
    prompt: str = "",
    *,
    known: Collection[str] = (),
    seed: int | None = None,
    unknown: str = "error",
    **sampling: Any,
) -> list[str]:
    """Sample different items, each from the beginning of a line.

    Args:
        model: trained on a text with one item a line.
        n_items: number of items.
        prompt: beginning of every item, without a line break.
        known: items to leave out.
        seed: of all items; None draws one.
        unknown: see `TextGenerator.preprocess`.
        sampling: fields of `SamplingParams`.

    Raises:
        UsageError: an option out of range.
        DataError: the text of the model does not have one item a line, or too few different items were sampled.
    """
    n_items = checked_number("lines", n_items)
    vocab, n_context, params = model.vocab, model.metadata.n_context, sampling_params(sampling)
    if "\n" in checked_text("prompt", prompt):
        raise UsageError("--lines samples whole lines; give a --prime without a line break")
    if vocab.unknown("\n"):
        raise DataError("the model's text has no line breaks, so it is not a list of items; leave out --lines")
    ids, end = vocab.encode(model.preprocess(prompt, unknown)).tolist(), vocab.bos_id
    uniform = uniform_stream(secrets.randbits(63) if seed is None else seed)
    longest, stepper, found = model.metadata.longest_line, model.stepper(), dict[str, None]()
    max_item = MAX_ITEM if longest is None else min(MAX_ITEM, max_line(longest))
    if len(ids) > max_item:
        raise UsageError(f"--prime has {len(ids)} characters, and a line at most {max_item}; give a shorter --prime")
    for _ in range(MAX_DRAWS * n_items):
        stepper.reset()
        drawn = generate_ids(stepper, [end] * (n_context or 1) + ids, uniform, params, n_context)
        item = list(ids)
        for index in islice(drawn, max_item + 1 - len(ids)):
            if index == end:
                break
            item.append(index)
        check_items([vocab.decode(item)], "a line of the model")
        for line in _lines(vocab, item):
            if line not in known and len(item) <= max_item:  # a longer one has no end
                found[line] = None
        if len(found) == n_items:
            check_items(list(found), "the model")
            return list(found)
    raise DataError(
        f"only {len(found)} different items in {MAX_DRAWS * n_items:,} lines; lower --lines, or raise --temperature"
    )

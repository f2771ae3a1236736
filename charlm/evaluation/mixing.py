"""Dynamic evaluation by context mixing: a network mixed with contexts of the text, learned as the text is read.

The mixer (context_mixer.py) first reads the training part, where the network reads cross-fitted n-grams if it has them
(lstm_ngram.py), and then the text up to the characters that are scored. It predicts each character before it learns it.
The network's weights stay as trained, or take the steps of dynamic evaluation (dynamic.py).

Shapes: N characters, n decisions of all their paths, K contexts, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from charlm.data.feeds import Stream
from charlm.data.vocab import Vocab
from charlm.errors import DataError, UsageError
from charlm.evaluation.context_mixer import ContextMixer
from charlm.evaluation.dynamic import DynamicConfig, diverged, read_and_adapt, restored
from charlm.evaluation.protocol import TextRange, eval_mode, feed_logits, scored_logits
from charlm.messages import no_bars
from charlm.models.base import CharModel
from charlm.models.counting import CountingModel, fit_counts, free_training_cache, keeping_counts, symbol_kinds
from charlm.ngrams.levels import Ints
from charlm.ngrams.mixed_contexts import read_contexts
from charlm.ngrams.symbol_tree import SymbolTree

MAX_CHARS = 1_500_000  # that are read
MAX_SYMBOLS = 256
NOISE = 0.5  # standard deviation
N_LIKELIEST = 3  # symbols of the network that are contexts
N_CONFIDENCES = 12  # of the network: a sixth of a nat each
TRAINING_LANE = 512  # characters in one forward pass over the training part

Chunks = Iterable[tuple[int, Tensor]]


def mixed_nll(
    model: CharModel,
    train_ids: Tensor,
    text: TextRange,
    begin: int,
    vocab: Vocab,
    n_context: int | None = None,
    config: DynamicConfig | None = None,
    max_chars: int = MAX_CHARS,
) -> NDArray[np.float64]:
    """Predict each character of a range once, by a mixer that learned from all characters before it.

    Args:
        model: a network; it is restored on exit.
        train_ids: the training part, (characters,).
        text: the characters to predict.
        begin: position in `text.ids` from which to read after the training part.
        vocab: of the model.
        n_context: characters in a window; None for a model that carries its state.
        config: options of the network's dynamic evaluation from `begin` on; None keeps its weights.
        max_chars: characters that are read; of a longer training part, the last ones.

    Returns:
        -ln p(character), nats, (characters,).

    Raises:
        UsageError: the model has no weights, or too many symbols.
        DataError: too many characters.
        CharlmError: the weights diverged.
    """
    n_new = text.stop - begin
    if not model.uses_gradients:
        raise UsageError("--dynamic mix is for a network, and this model has only counts; use --dynamic rms")
    if (n_symbols := len(vocab.codepoints)) > MAX_SYMBOLS:
        raise UsageError(f"--dynamic mix is for at most {MAX_SYMBOLS} symbols, got {n_symbols:,}; use --dynamic rms")
    if n_new > max_chars:
        raise DataError(f"--dynamic mix is for at most {max_chars:,} characters, got {n_new:,}; use --dynamic rms")
    first = max(0, len(train_ids) + n_new - max_chars)
    known = train_ids[first:]
    ids = torch.cat([known.cpu(), text.ids[begin : text.stop].cpu()]).numpy().astype(np.int64)

    def chunks() -> Generator[tuple[int, Tensor]]:
        for position, logits in training_logits(model, train_ids, text.bos_id, vocab, n_context, first):
            if position >= first:
                yield position - first, logits
        with closing(_logits(model, replace(text, first=begin), n_context, config)) as new:
            for position, logits in _positioned(new, len(known)):
                if config is not None and not logits.isfinite().all():
                    raise diverged(config)
                yield position, logits

    tree = SymbolTree(ids[: len(known)], len(vocab))
    with closing(chunks()) as read:
        return mixed_text_nll(tree, ids, read, vocab, len(known))[-text.n_chars :]


def _logits(
    model: CharModel, text: TextRange, n_context: int | None, config: DynamicConfig | None = None
) -> Generator[tuple[Tensor, Tensor]]:
    if config is None:
        with eval_mode(model):
            yield from scored_logits(model, text, n_context)
    else:
        with restored(model):
            yield from read_and_adapt(model, text, config, n_context)


def training_logits(
    model: CharModel, ids: Tensor, bos_id: int, vocab: Vocab, n_context: int | None, first: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Yield positions and logits of the training part, by cross-fitted counts if the model has counts.

    Args:
        model: a network.
        ids: the training part, (characters,).
        bos_id: index before its first character.
        vocab: of the model.
        n_context: characters in a window; None for a model that carries its state.
        first: position of the first character to predict, for a model without counts.
    """
    if not isinstance(model, CountingModel):
        yield from _positioned(_logits(model, TextRange(ids, first, len(ids), bos_id), n_context), first)
        return
    with eval_mode(model), keeping_counts(model):
        fit_counts(model, ids, *symbol_kinds(vocab))
        span = model.training_span(ids)
        feed = Stream(span, TRAINING_LANE, 1)
        read = ((logits.squeeze(0), targets) for logits, targets in feed_logits(model, feed, len(feed)))
        yield from _positioned(read, len(ids) - len(span) + 1)
        free_training_cache(model)


def _positioned(chunks: Iterable[tuple[Tensor, Tensor]], position: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the position of each chunk of logits, and the chunk; the first one is at `position`."""
    for logits, _ in chunks:
        if len(logits):  # not a warm-up
            yield position, logits
        position += len(logits)


def mixed_text_nll(tree: SymbolTree, ids: Ints, chunks: Chunks, vocab: Vocab, n_noisy: int = 0) -> NDArray[np.float64]:
    """Return -ln p of each character of a text, nats, (N,); each is predicted, then learned.

    Args:
        tree: of the symbols.
        ids: the text as indices, int64, (N,).
        chunks: positions, and the network's logits of the characters from there on, (characters, V); where there are
            none, its decisions have the probability 1/2.
        vocab: of V symbols.
        n_noisy: number of first characters on which the network was trained. It predicts them better than other text;
            noise is added to the logits of its decisions, so that the mixer does not rely on it too much.
    """
    nodes, bits, starts = tree.decisions(ids)
    network, likeliest, confidence = _network_inputs(tree, nodes, starts, chunks, n_noisy)
    counters, tables, selected = _context_inputs(tree, ids, nodes, starts, vocab, likeliest, confidence)
    mixer = ContextMixer(tree.n_nodes, counters, tables, selected)
    nats = np.empty(len(ids))
    for i in tqdm(range(len(ids)), "mixing", delay=2, leave=False, disable=no_bars(), dynamic_ncols=True):
        path = slice(starts[i], starts[i + 1])
        nats[i] = mixer.read(nodes[path], bits[path], counters[path], tables[path], network[path], selected[i])
    return nats


def _network_inputs(
    tree: SymbolTree, nodes: Ints, starts: Ints, chunks: Chunks, n_noisy: int
) -> tuple[NDArray[np.float32], Ints, Ints]:
    """Return the network's logit of each decision, (n,), its likeliest symbols, (N, 3), and its confidence, (N,)."""
    n_chars, noise = len(starts) - 1, np.random.default_rng(0)
    network, likeliest = np.zeros(len(nodes), np.float32), np.zeros((n_chars, N_LIKELIEST), np.int64)
    confidence = np.zeros(n_chars, np.int64)
    for position, logits in chunks:
        log_probs = logits.float().log_softmax(-1).cpu().numpy()
        chars = slice(position, position + len(log_probs))
        path = slice(starts[chars.start], starts[chars.stop])
        rows = np.arange(len(log_probs)).repeat(np.diff(starts[chars.start : chars.stop + 1]))
        is_noisy = rows + position < n_noisy
        network[path] = tree.node_logits(log_probs, rows, nodes[path]) + is_noisy * noise.normal(0, NOISE, len(rows))
        confidence[chars] = np.minimum(-6 * log_probs.max(axis=1), N_CONFIDENCES - 1)
        for rank in range(N_LIKELIEST):  # much quicker than sorting
            likeliest[chars, rank] = log_probs.argmax(axis=1)
            log_probs[np.arange(len(log_probs)), likeliest[chars, rank]] = -np.inf
    return network, likeliest, confidence


def _context_inputs(
    tree: SymbolTree, ids: Ints, nodes: Ints, starts: Ints, vocab: Vocab, likeliest: Ints, confidence: Ints
) -> tuple[Ints, Ints, Ints]:
    """Return the numbers of counters, (n, K), tables, (n, A), and sets of weights, (N, S - 1), see `ContextMixer`."""
    contexts, selectors = read_contexts(ids, tree, vocab)
    pair = likeliest[:, 0] * len(vocab) + likeliest[:, 1]
    counters = _numbers([*contexts.T, pair, pair * len(vocab) + likeliest[:, 2]], starts, nodes, tree.n_nodes)
    tables = _numbers([selectors[:, 0], likeliest[:, 0], pair], starts, nodes, tree.n_nodes)
    selected = np.column_stack([selectors, confidence])
    n_values = selected.max(axis=0) + 1
    return counters, tables, selected + n_values.cumsum() - n_values


def _numbers(kinds: Sequence[Ints], starts: Ints, nodes: Ints, n_nodes: int) -> NDArray[Any]:
    """Number the pairs of a context, of each kind, (N,), and a node: int32, (n, kinds)."""
    numbers, first = np.empty((len(nodes), len(kinds)), np.int32), 0
    for column, kind in zip(numbers.T, kinds, strict=True):
        pairs = kind.repeat(np.diff(starts)) * n_nodes + nodes  # may wrap around 2^64, as a hash may
        found, column[:] = np.unique(pairs, return_inverse=True)
        column += first
        first += len(found)
    return numbers

"""Dynamic evaluation by context mixing: a network mixed with contexts of the text, learned as the text is read.

The mixer (context_mixer.py) first reads the training part, where the network reads cross-fitted n-grams if it has them
(lstm_ngram.py), and then the text up to the characters that are scored. It predicts each character before it learns it.
The network's weights stay as trained, or take the steps of dynamic evaluation (dynamic.py).

Shapes: N characters, n nodes of all their paths, K contexts, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from charlm.evaluation.dynamic import DynamicConfig, read_and_adapt, restored
from charlm.evaluation.protocol import TextRange, eval_mode, feed_logits, scored_logits
from charlm.messages import no_bars
from charlm.models.base import CharModel
from charlm.models.counting import CountingModel, fit_counts, free_training_cache, keeping_counts
from charlm.ngrams.levels import Ints
from charlm.ngrams.mixed_contexts import ContextReader
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

    Returns:
        -ln p(character), nats, (characters,).

    Raises:
        UsageError: the model has no weights.
        DataError: too many characters.
    """
    if not model.uses_gradients:
        raise UsageError("--dynamic mix mixes a network with contexts; this model only counts")
    if len(vocab) > MAX_SYMBOLS:
        raise UsageError(f"--dynamic mix is for at most {MAX_SYMBOLS} symbols, got {len(vocab):,}; use --dynamic rms")
    if text.stop - begin > MAX_CHARS:
        raise DataError(f"{text.stop - begin:,} characters are too many for --dynamic mix: at most {MAX_CHARS:,}")
    known = train_ids[max(0, len(train_ids) + text.stop - begin - MAX_CHARS) :]
    ids = torch.cat([known.cpu(), text.ids[begin : text.stop].cpu()]).numpy().astype(np.int64)
    tree = SymbolTree(known.cpu().numpy().astype(np.int64), len(vocab))

    def chunks() -> Iterator[tuple[int, Tensor]]:
        for position, logits in _training_logits(model, train_ids, text.bos_id, vocab, n_context):
            if (position := position - len(train_ids) + len(known)) >= 0:
                yield position, logits
        yield from _numbered(_logits(model, replace(text, first=begin), n_context, config), len(known))

    return mixed_text_nll(tree, ids, chunks(), vocab, len(known))[len(known) + text.first - begin :]


def _logits(
    model: CharModel, text: TextRange, n_context: int | None, config: DynamicConfig | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    if config is None:
        with eval_mode(model):
            yield from scored_logits(model, text, n_context)
    else:
        with restored(model):
            yield from read_and_adapt(model, text, config, n_context)


def _training_logits(
    model: CharModel, ids: Tensor, bos_id: int, vocab: Vocab, n_context: int | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield positions and logits of the training part, by cross-fitted counts if the model has counts."""
    if not isinstance(model, CountingModel):
        yield from _numbered(_logits(model, TextRange(ids, 0, len(ids), bos_id), n_context), 0)
        return
    with eval_mode(model), keeping_counts(model):
        fit_counts(model, ids, torch.from_numpy(vocab.char_classes))
        span = model.training_span(ids)
        feed = Stream(span, TRAINING_LANE, 1)
        read = ((logits.squeeze(0), targets) for logits, targets in feed_logits(model, feed, len(feed)))
        yield from _numbered(read, len(ids) - len(span) + 1)
        free_training_cache(model)


def _numbered(chunks: Iterable[tuple[Tensor, Tensor]], position: int) -> Iterator[tuple[int, Tensor]]:
    for logits, _ in chunks:
        if len(logits):
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
        n_noisy: number of first characters on which the network was trained: noise is added to st of its predictions,
            which are better than on other text, so that the mixer does not rely on them too much.
    """
    on_path = np.arange(tree.nodes.shape[1]) < tree.depths[ids][:, None]
    nodes, bits = tree.nodes[ids][on_path], tree.bits[ids][on_path]
    start = np.concatenate([[0], tree.depths[ids].cumsum()])  # of the path of each character
    network, likeliest = np.zeros(len(nodes), np.float32), np.zeros((len(ids), N_LIKELIEST + 1), np.int64)
    noise = np.random.default_rng(0)
    for position, logits in chunks:
        log_probs = logits.float().log_softmax(-1).cpu().numpy()
        after = position + len(log_probs)
        path = slice(start[position], start[after])
        rows = np.arange(len(log_probs)).repeat(np.diff(start[position : after + 1]))
        network[path] = tree.node_logits(log_probs, rows, nodes[path])
        n_known = min(path.stop, start[n_noisy]) - path.start
        if n_known > 0:
            network[path][:n_known] += noise.normal(0, NOISE, n_known)
        order = np.argsort(-log_probs, axis=1, kind="stable")[:, :N_LIKELIEST]
        likeliest[position:after, : order.shape[1]] = order
        likeliest[position:after, -1] = np.minimum(-6 * log_probs.max(axis=1), N_CONFIDENCES - 1)
    contexts, selected = _contexts(tree, ids, vocab)
    pairs = likeliest[:, 0] * len(vocab) + likeliest[:, 1]
    kinds = [*contexts.T, pairs, pairs * len(vocab) + likeliest[:, 2]]
    slots, n_slots = _numbers(kinds, start, nodes, len(tree.spans))
    tables, n_tables = _numbers([selected[:, 0], likeliest[:, 0], pairs], start, nodes, len(tree.spans))
    selected = np.column_stack([selected, likeliest[:, -1]])
    sizes = selected.max(axis=0) + 1
    selected += sizes.cumsum() - sizes
    mixer = ContextMixer(len(tree.spans), len(kinds), n_slots, n_tables, sizes.sum(), len(sizes) + 1)
    nats = np.empty(len(ids))
    for i in tqdm(range(len(ids)), "mixing", delay=2, leave=False, disable=no_bars(), dynamic_ncols=True):
        path = slice(start[i], start[i + 1])
        nats[i] = mixer.read(nodes[path], bits[path], slots[:, path], tables[:, path], network[path], selected[i])
    return nats


def _numbers(kinds: Sequence[Ints], start: Ints, nodes: Ints, n_nodes: int) -> tuple[NDArray[Any], int]:
    """Number the pairs of a context, of each kind, (N,), and a node: int32, (kinds, n), and how many there are."""
    numbers, n_numbers = np.empty((len(kinds), len(nodes)), np.int32), 0
    for row, kind in zip(numbers, kinds, strict=True):
        dense = np.unique(kind, return_inverse=True)[1]
        pairs, row[:] = np.unique(dense.repeat(np.diff(start)) * n_nodes + nodes, return_inverse=True)
        row += n_numbers
        n_numbers += len(pairs)
    return numbers, n_numbers


def _contexts(tree: SymbolTree, ids: Ints, vocab: Vocab) -> tuple[Ints, Ints]:
    """Return the contexts, (N, K), and selectors, (N, selectors), before each character."""
    symbols = [chr(codepoint) for codepoint in vocab.codepoints]
    index = {symbol: i for i, symbol in enumerate(symbols, 1)}
    folded = [0, *(index.get(symbol.lower(), i) for i, symbol in enumerate(symbols, 1))]
    reader = ContextReader(tree, vocab.char_classes.tolist(), folded)
    first = reader.now()
    contexts, selected = (np.empty((len(ids), len(row)), np.int64) for row in first)
    contexts[0], selected[0] = first
    for position, char in enumerate(ids[:-1].tolist(), 1):
        contexts[position], selected[position] = reader.step(char)
    return contexts, selected

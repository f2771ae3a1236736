"""What came here of late: a text says again what it has just said, names and turns of phrase that no training saw.

With c_k(w) how often, in the last N_RECENT characters, w came after the k characters that were read last, and d_k how
many different w came:

    p_k(w) = (c_k(w) + d_k p_{k-1}(w)) / (sum of c_k + d_k),    k = 3, ..., 8,    p_2(w) = 1 / V

Where nothing came, p_k = p_{k-1}. Shorter contexts are left out: they are so frequent that counts of the training text
know them better. The same by words, whatever white space parts them: what came after b, the letters of this word so
far, unless it has none, and then what came after v b, with v the word before (words.py).

References: a text's own past as a model of it, Kuhn and De Mori (1990), A cache-based natural language model, IEEE
Transactions on Pattern Analysis and Machine Intelligence 12(6); Grave, Joulin, Usunier (2016), arXiv:1612.04426; how
much is left to the shorter context, Witten and Bell (1991), see ngram.py.

Shapes: B batch_size, S + T characters, of which only what comes after the last T is asked for, V vocab_size, M = B * T,
P pairs of a place and an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

N_RECENT = 16384  # characters that are remembered
SHORTEST, LONGEST = 3, 8  # k
N_REMEMBERED = N_RECENT + LONGEST - 1  # characters to keep for that: the context of the first of them is known, too
N_PAIRS = 1 << 20  # at once, for the sake of memory: in blank space all places are alike


def recent_pairs(context: Tensor, n_read: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Find where the last contexts stood before, some `N_PAIRS` places at a time, all for one asking place together.

    Args:
        context: a number after each character, -1 where there is nothing to be found, long, (B, S + T).
        n_read: T.

    Yields:
        asked: places in the flat text, long, (P,).
        then: for each an earlier place in the same text with the same number, long, (P,).
    """
    length, n_contexts = context.shape[1], context.max() + 2
    place = torch.arange(context.numel(), device=context.device)
    row, column, flat = place // length, place % length, context.flatten()
    # Equal numbers lie side by side, in the order of the text.
    ordered, order = torch.sort(row * n_contexts + flat + 1, stable=True)
    key = (ordered.diff(prepend=ordered[:1]) != 0).cumsum(0) * length + column[order]
    rank = torch.empty_like(order).scatter_(0, order, place)
    asked = place[(column >= length - n_read) & (flat >= 0)]
    first = torch.searchsorted(key, key[rank[asked]] - column[asked].clamp(max=N_RECENT))
    n_found = rank[asked] - first
    sizes = torch.bincount(n_found.cumsum(0) // N_PAIRS).tolist()
    for asking, begin, n in zip(*(torch.split(all_, sizes) for all_ in (asked, first, n_found)), strict=True):
        begin = (begin - n.cumsum(0) + n).repeat_interleave(n)
        yield asking.repeat_interleave(n), order[begin + torch.arange(len(begin), device=order.device)]


class CacheCounts:
    """What is expected, as ever longer contexts are found.

    Args:
        text: character indices, long, (B, S + T).
        n_read: T.
        vocab_size: V.
    """

    def __init__(self, text: Tensor, n_read: int, vocab_size: int) -> None:
        self.text, self.n_read = text, n_read
        exact = torch.float32 if text.device.type == "mps" else torch.float64  # mps has no float64
        shape = len(text) * n_read, vocab_size
        self.probs = torch.full(shape, 1 / vocab_size, dtype=exact, device=text.device)  # (M, V)

    def count(self, asked: Tensor, then: Tensor) -> None:
        """Let what came after earlier places have its say at the places that asked for them, each long, (P,)."""
        length, vocab_size = self.text.shape[1], self.probs.shape[1]
        row = asked // length * self.n_read + asked % length - (length - self.n_read)
        counts = torch.zeros_like(self.probs)
        followers = self.text.flatten()[then + 1]
        counts.view(-1).index_add_(0, row * vocab_size + followers, counts.new_ones(len(row)))
        n_kinds = (counts > 0).sum(dim=1, keepdim=True)
        total = (counts.sum(dim=1, keepdim=True) + n_kinds).clamp(min=1)
        self.probs = torch.where(n_kinds > 0, (counts + n_kinds * self.probs) / total, self.probs)


def recent_probs(text: Tensor, n_read: int, vocab_size: int) -> Tensor:
    """Return the probability of each symbol by the characters of late, float64 where there is such, (B, T, V).

    Args:
        text: character indices, long, (B, S + T).
        n_read: T.
        vocab_size: V.
    """
    found, length, flat = CacheCounts(text, n_read, vocab_size), text.shape[1], text.flatten()
    context = torch.full_like(text, -1)
    if length >= SHORTEST:
        powers = vocab_size ** torch.arange(SHORTEST, device=text.device)
        context[:, SHORTEST - 1 :] = (text.unfold(1, SHORTEST, 1) * powers).sum(dim=2)
    for asked, then in recent_pairs(context, n_read):
        found.count(asked, then)
        for k in range(SHORTEST + 1, LONGEST + 1):
            same = (then % length >= k - 1) & (flat[then - k + 1] == flat[asked - k + 1])
            asked, then = asked[same], then[same]
            found.count(asked, then)
    return found.probs.view(len(text), n_read, vocab_size)


def recent_word_probs(text: Tensor, contexts: Tensor, n_read: int, vocab_size: int) -> Tensor:
    """Return the probability of each symbol by the words of late, float64 where there is such, (B, T, V).

    Args:
        text: character indices, long, (B, S + T).
        contexts: of b and of v b after each character, see `words.word_contexts`, long, (B, S + T, 2).
        n_read: T.
        vocab_size: V.
    """
    found = CacheCounts(text, n_read, vocab_size)
    begun, both = contexts.unbind(dim=2)
    pairs = recent_pairs(torch.where(begun == 0, both, begun), n_read)
    begun, both = begun.flatten(), both.flatten()
    for asked, then in pairs:
        inside, same = begun[asked] != 0, both[asked] == both[then]
        found.count(asked[inside], then[inside])
        found.count(asked[same], then[same])
    return found.probs.view(len(text), n_read, vocab_size)

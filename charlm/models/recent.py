"""What came here of late: a text says again what it has just said, names and turns of phrase that no training saw.

With c_k(w) how often, in the last N_RECENT characters, w came after the k characters that were read last, and d_k how
many different w came:

    p_k(w) = (c_k(w) + d_k p_{k-1}(w)) / (sum of c_k + d_k),    k = 3, ..., 8,    p_2(w) = 1 / V

Where nothing came, p_k = p_{k-1}. Shorter contexts are left out: they are so frequent that counts of the training text
know them better.

References: a text's own past as a model of it, Kuhn and De Mori (1990), A cache-based natural language model, IEEE
Transactions on Pattern Analysis and Machine Intelligence 12(6); Grave, Joulin, Usunier (2016), arXiv:1612.04426; how
much is left to the shorter context, Witten and Bell (1991), see ngram.py.

Shapes: B batch_size, T characters, S characters before, V vocab_size, M = B * T, P pairs of a place and an earlier one.
"""

from __future__ import annotations

import torch
from torch import Tensor

N_RECENT = 16384  # characters that are remembered
SHORTEST, LONGEST = 3, 8  # k


def recent_pairs(text: Tensor, n_read: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Find where the last characters stood before.

    Args:
        text: character indices, long, (B, S + T).
        n_read: T, the last ones; only they are asked for.
        vocab_size: V.

    Returns:
        asked: places in the flat text, long, (P,).
        then: for each an earlier place, where the same SHORTEST characters end, long, (P,).
    """
    length, flat = text.shape[1], text.flatten()
    place = torch.arange(len(flat), device=text.device)
    row, column = place // length, place % length
    key = row
    for back in range(SHORTEST):
        key = key * vocab_size + flat[(place - back).clamp(min=0)]
    key = torch.where(column < SHORTEST - 1, -1 - row, key) * length + column
    ordered, order = torch.sort(key)  # equal characters lie side by side, in the order of the text
    rank = torch.empty_like(order).scatter_(0, order, place)
    asked = place[column >= max(length - n_read, SHORTEST - 1)]
    first = torch.searchsorted(ordered, key[asked] - column[asked].clamp(max=N_RECENT))
    n_found = rank[asked] - first
    asked, first = asked.repeat_interleave(n_found), (first - n_found.cumsum(0) + n_found).repeat_interleave(n_found)
    return asked, order[first + torch.arange(len(first), device=text.device)]


def recent_probs(chars: Tensor, before: Tensor, vocab_size: int) -> Tensor:
    """Return the probability of each symbol after each character, float64 where there is such, (B, T, V).

    Args:
        chars: character indices, long, (B, T).
        before: the characters before, as many as are known and not more than N_RECENT, long, (B, S).
        vocab_size: V.
    """
    text = torch.cat([before, chars], dim=1)
    flat, length = text.flatten(), text.shape[1]
    asked, then = recent_pairs(text, chars.shape[1], vocab_size)
    row = asked // length * chars.shape[1] + asked % length - before.shape[1]  # among all that are asked for
    exact = torch.float32 if chars.device.type == "mps" else torch.float64  # mps has no float64
    probs = torch.full((chars.numel(), vocab_size), 1 / vocab_size, dtype=exact, device=chars.device)
    for k in range(SHORTEST, LONGEST + 1):
        if k > SHORTEST:
            same = (then % length >= k - 1) & (flat[then - k + 1] == flat[asked - k + 1])
            asked, then, row = asked[same], then[same], row[same]
        counts = torch.zeros_like(probs)
        counts.view(-1).index_add_(0, row * vocab_size + flat[then + 1], probs.new_ones(len(row)))
        n_kinds = (counts > 0).sum(dim=1, keepdim=True)
        total = (counts.sum(dim=1, keepdim=True) + n_kinds).clamp(min=1)
        probs = torch.where(n_kinds > 0, (counts + n_kinds * probs) / total, probs)
    return probs.view(*chars.shape, vocab_size)

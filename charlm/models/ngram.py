"""Counting: interpolated n-grams, with Kneser-Ney or Witten-Bell smoothing; no gradients.

What follows a context h is estimated from what followed h in the text, and from the same with the first symbol of h
dropped, down to the empty context and then to 1 / V for every index, 0 ("unknown") among them. With c(hw) the count
of symbol w after h:

    p(w | h) = (kept(hw) + freed(h) p(w | h')) / sum_w c'(hw),    h' = h without its first symbol

where every seen symbol keeps some of its count and frees some for the shorter context, freed(h) is the sum over the
symbols seen after h, and c' = kept + freed. Where nothing was seen after h, p(w | h) = p(w | h').

    Witten-Bell: kept = c(hw), freed = 1. Witten and Bell (1991), IEEE Transactions on Information Theory 37(4),
                 method C.
    Kneser-Ney:  kept = c(hw) - D, freed = D, with a discount D for counts of 1, 2, and 3 or more at each level; for all
                 but the longest h, c(hw) is the number of different symbols that stand before hw in the text. Chen and
                 Goodman (1998), An empirical study of smoothing techniques for language modeling, TR-10-98, Harvard,
                 "interpolated modified Kneser-Ney".

Shapes: B batch_size, T characters, V vocab_size, n order, M = B * T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from charlm.errors import UsageError
from charlm.models.counting import CountingModel
from charlm.ngrams.levels import Level, followers
from charlm.ngrams.trie import Trie

MAX_ORDER = 32
SMOOTHINGS = ("kneser-ney", "witten-bell")


def discounts(counts: Tensor) -> list[float]:
    """Return how much a count of 0, 1, 2, and 3 or more frees by modified Kneser-Ney.

    With n_i the number of k-grams that have count i, Y = n_1 / (n_1 + 2 n_2) and D_i = i - (i + 1) Y n_{i+1} / n_i.
    Reference: Chen and Goodman (1998), equation 26. Where a level is too small for 0 < D_i < i, it is i / 2.

    Args:
        counts: of one level, int32, (U,).
    """
    n = torch.bincount(counts.clamp(max=5), minlength=6).tolist()
    found = [0.0]
    for i in (1, 2, 3):
        exact = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i] if n[1] and n[i] else 0.0
        found.append(exact if 0 < exact < i else i / 2)
    return found


def interpolate(
    probs: Tensor, found: tuple[Tensor, Tensor, Tensor], discount_mass: Tensor, vocab_size: int, keeps_all: bool = False
) -> None:
    """Turn what shorter contexts expect into what longer ones do, in place.

    Args:
        probs: of each symbol, float, (M, V).
        found: what followed the longer contexts, as `followers` finds it.
        discount_mass: by a count of 0, 1, 2, and 3 or more, float, (4,).
        vocab_size: V.
        keeps_all: what is freed is not taken from the counts.
    """
    row, symbol, count = found
    frees = discount_mass[count.clamp(max=3)].to(probs)
    kept = count.to(probs) if keeps_all else count - frees
    total = probs.new_zeros(len(probs)).index_add_(0, row, kept + frees)  # (M,)
    left = probs.new_zeros(len(probs)).index_add_(0, row, frees)
    probs *= torch.where(total > 0, left / total, 1.0).unsqueeze(1)
    probs.view(-1).index_add_(0, row * vocab_size + symbol, kept / total[row])


class InterpolatedNGram(Trie):
    """What follows, by the counts of a trie.

    Args:
        vocab_size: V.
        order: n.
        smoothing: one of `SMOOTHINGS`.
    """

    discount_mass: Tensor  # by a count of 0, 1, 2, and 3 or more, float, (n, 4)

    def __init__(self, vocab_size: int, order: int, smoothing: str) -> None:
        super().__init__(vocab_size, order, by_neighbours=smoothing == "kneser-ney")
        self.smoothing = smoothing
        self.register_buffer("discount_mass", torch.ones(order, 4), persistent=False)

    def replace(self, found: Sequence[Level]) -> None:
        """Put levels 1, ..., n in the place of those there are, and find the discounts anew."""
        super().replace(found)
        if self.smoothing == "kneser-ney":
            self.discount_mass = self.discount_mass.new_tensor([discounts(counts) for _, counts in found])

    def probs(self, nodes: Tensor) -> Tensor:
        """Return the probability of each symbol, float64 where there is such, (M, V), after contexts, long, (M, n)."""
        # Far down a long and certain context, what is left for the unseen is below the range of float32.
        exact = torch.float32 if nodes.device.type == "mps" else torch.float64  # mps has no float64
        probs = torch.full((len(nodes), self.vocab_size), 1 / self.vocab_size, dtype=exact, device=nodes.device)
        for k in range(self.order):
            found = followers(self.level(k + 1), nodes[:, k], self.vocab_size)
            interpolate(probs, found, self.discount_mass[k], self.vocab_size, self.smoothing == "witten-bell")
        return probs

    def expert_log_probs(self, contexts: Tensor) -> Tensor:
        """Return what is expected, all that there is to say of it apart.

        Args:
            contexts: what the model's `features` returned, long, (B, T, ...).

        Returns:
            logarithms of probabilities, float, (B, T, K, V); here K = 1.
        """
        return safe_log(self.probs(contexts.flatten(0, -2))).view(*contexts.shape[:-1], 1, self.vocab_size)

    def forward(self, contexts: Tensor) -> Tensor:
        """Return the logits, float, (B, T, V), after what the model's `features` returned."""
        return self.expert_log_probs(contexts).squeeze(2)


def safe_log(probs: Tensor) -> Tensor:
    """Return ln p, float32, of p that may be too small for it."""
    return probs.clamp(min=torch.finfo(probs.dtype).tiny).log().float()


class NGram(CountingModel):
    """Predict each next character by what followed the same characters in the text.

    Args:
        vocab_size: V.
        order: n; a character is predicted from the n - 1 before it.
        smoothing: "kneser-ney" or "witten-bell".

    Raises:
        UsageError: another smoothing, or an order that no memory has room for.
    """

    uses_gradients = False
    head: InterpolatedNGram

    def __init__(self, vocab_size: int, order: int = 7, smoothing: str = "kneser-ney") -> None:
        super().__init__()
        if smoothing not in SMOOTHINGS:
            raise UsageError(f"smoothing = {smoothing!r} is not known; it is one of: {', '.join(SMOOTHINGS)}")
        if order > MAX_ORDER:
            raise UsageError(f"order is {order}; it must be at most {MAX_ORDER}")
        self.head = InterpolatedNGram(vocab_size, order, smoothing)

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.head.vocab_size

    @property
    def n_parameters(self) -> int:
        """The number of counts."""
        return sum(len(self.head.level(k)[1]) for k in range(1, self.head.order + 1))

    def fit_counts(self, ids: Tensor, char_classes: Tensor | None = None) -> None:
        """Count a text, instead of what was counted before; see `CountingModel.fit_counts`.

        Raises:
            DataError: it is too short or too long.
        """
        self.head.count(ids)

    def update_counts(self, ids: Tensor, n_known: int) -> None:
        """Count more; see `CountingModel.update_counts`."""
        self.head.update_counts(ids, n_known)

    def load_counts(self, stored: Mapping[str, Tensor]) -> None:
        """Take over counts that were stored, by their names in `state_dict`.

        Raises:
            ValueError: they do not hold together.
        """
        places = range(1, self.head.order + 1)
        self.head.restore([(stored[f"head.keys_{k}"], stored[f"head.counts_{k}"]) for k in places])

    def features(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: the n - 1 characters before, long, (B, n - 1), -1 where there was none; None knows of none.

        Returns:
            features: nodes of the k-grams that end at each character, -1 for one never counted, long, (B, T, n).
            state: the last n - 1 characters.
        """
        n_before = self.head.order - 1
        before = chars.new_full((len(chars), n_before), -1) if state is None else state
        read = torch.cat([before, chars], dim=1)
        return self.head.walk(read)[:, n_before:], read[:, chars.shape[1] :]

"""Counting characters and words: what followed the letters of this word so far, and what did after the words before.

With b the letters read since the word began, v the word, or the single mark, before it, and u the one before that:

    p(w | u, v, b) = (c(u v b w) - D + freed(u v b) p(w | v, b)) / c(u v b)
    p(w | v, b) = (c(v b w) - D + freed(v b) p(w | b)) / c(v b)
    p(w | b)    = (c(b w) - D + freed(b) p_ngram(w)) / c(b), with p_ngram by the last n - 1 characters, see ngram.py

where c counts how often, D is what a count of 1, 2, and 3 or more frees, as in ngram.py, and freed(h) the sum of D over
the symbols seen after h. Where nothing was seen after h, the shorter context speaks. White space parts words and is
nothing else: the end of a line and a blank are the same to words. Which of them it is, the length l of the line tells:

    p_word(w) = white * p(w | l)                                            for white space w
    p(w | l)  = (c(l w) - D + freed(l) p(w | u, v, b) / white) / c(l)
    p_word(w) = p(w | u, v, b)                                              for any other w

with white the sum of p(w | u, v, b) over all white space w.

Both have their say: p(w) = (p_ngram(w) + p_word(w)) / 2.

How contexts become numbers, words.py says. References: contexts of words and of characters together, Teahan and Cleary
(1997), Models of English text, DCC '97; discounts, Chen and Goodman (1998), TR-10-98, Harvard.

Shapes: B batch_size, T characters, N characters of text, V vocab_size, n order, M = B * T, U keys of a level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from charlm.models.base import State
from charlm.models.ngram import InterpolatedNGram, NGram, discounts, interpolate, safe_log
from charlm.ngrams.levels import Level, check_level, followers, merge_level
from charlm.ngrams.word_contexts import BLANK, BREAK, N_CONTEXTS, N_WORD_LEVELS, OTHER, start_of_contexts, word_contexts

N_AT_ONCE = 1 << 21  # characters counted at once, for the sake of memory


class InterpolatedWordNGram(InterpolatedNGram):
    """What follows, by the counts of characters and by those of words.

    Args:
        vocab_size: V.
        order: n.
    """

    char_classes: Tensor
    word_discount_mass: Tensor  # by a count of 0, 1, 2, and 3 or more, float, (4, 4)

    def __init__(self, vocab_size: int, order: int) -> None:
        super().__init__(vocab_size, order, "kneser-ney")
        self.register_buffer("char_classes", torch.zeros(vocab_size, dtype=torch.uint8))
        for k in range(1, N_WORD_LEVELS + 1):
            self.register_buffer(f"word_keys_{k}", torch.empty(0, dtype=torch.int64))
            self.register_buffer(f"word_counts_{k}", torch.empty(0, dtype=torch.int32))
        self.register_buffer("word_discount_mass", torch.ones(N_WORD_LEVELS, 4), persistent=False)

    def word_level(self, k: int) -> Level:
        """Return keys, context * V + symbol, int64, (U,), and counts, int32, (U,), of b, v b, u v b, or l."""
        return self.get_buffer(f"word_keys_{k}"), self.get_buffer(f"word_counts_{k}")

    def replace_words(self, k: int, keys: Tensor, counts: Tensor) -> None:
        """Put a level in the place of the one there is, and find its discounts anew."""
        setattr(self, f"word_keys_{k}", keys.to(self.char_classes.device))
        setattr(self, f"word_counts_{k}", counts.to(self.char_classes.device))
        self.word_discount_mass[k - 1] = self.word_discount_mass.new_tensor(discounts(counts))

    def count_words(self, ids: Tensor, n_known: int = 0) -> None:
        """Count what follows each context of words in a text, beside what was counted before.

        Args:
            ids: the text as indices, (N,).
            n_known: so many of its first characters were counted before.
        """
        state, start = None, start_of_contexts(self.char_classes[ids[:n_known].long()]) if n_known else 0
        for begin in range(start, len(ids), N_AT_ONCE):
            contexts, state = word_contexts(ids[None, begin : begin + N_AT_ONCE], self.char_classes, state)
            first, stop = max(begin, n_known - 1), min(begin + N_AT_ONCE, len(ids) - 1)
            if first < stop:
                self._add(contexts[0, first - begin : stop - begin].cpu(), ids[first + 1 : stop + 1].long().cpu())

    def _add(self, contexts: Tensor, symbols: Tensor) -> None:
        """Count symbols, long, (T,), after contexts, long, (T, 4)."""
        for k in range(1, N_WORD_LEVELS + 1):
            keys, counts = (part.cpu() for part in self.word_level(k))
            more = contexts[:, k - 1] * self.vocab_size + symbols
            if k == N_WORD_LEVELS:
                more = more[self.char_classes.cpu()[symbols] >= BLANK]
            more, often = torch.unique(more, return_counts=True)
            (keys, counts), *_ = merge_level((keys, counts), (more, often.int()))
            self.replace_words(k, keys, counts)

    def expert_log_probs(self, contexts: Tensor) -> Tensor:
        """Return the logarithms of p_ngram and p_word after contexts, long, (B, T, n + 4): float, (B, T, 2, V)."""
        flat = contexts.flatten(0, -2)
        by_chars = self.probs(flat)
        by_words, is_white = by_chars.clone(), self.char_classes >= BLANK
        for k in range(1, N_WORD_LEVELS):
            self._lengthen(by_words, k, flat)
        white = (by_words * is_white).sum(dim=1, keepdim=True)
        by_length = by_words * is_white / white.clamp(min=torch.finfo(white.dtype).tiny)
        self._lengthen(by_length, N_WORD_LEVELS, flat)
        by_words = torch.where(is_white, white * by_length, by_words)
        both = torch.stack([by_chars, by_words], dim=1)
        return safe_log(both).view(*contexts.shape[:-1], 2, self.vocab_size)

    def _lengthen(self, probs: Tensor, k: int, contexts: Tensor) -> None:
        found = followers(self.word_level(k), contexts[:, self.order + k - 1], self.vocab_size)
        interpolate(probs, found, self.word_discount_mass[k - 1], self.vocab_size)

    def forward(self, contexts: Tensor) -> Tensor:
        """Return the logits, float, (B, T, V), after contexts, long, (B, T, n + 4)."""
        return self.expert_log_probs(contexts).logsumexp(dim=2) - math.log(2)


class WordNGram(NGram):
    """Predict each next character by what followed the same characters, and the same words, in the text.

    Args:
        vocab_size: V.
        order: n; besides words, a character is predicted from the n - 1 before it.
    """

    head: InterpolatedWordNGram

    def __init__(self, vocab_size: int, order: int = 7) -> None:
        super().__init__(vocab_size, order)
        self.head = InterpolatedWordNGram(vocab_size, order)

    @property
    def n_parameters(self) -> int:
        """The number of counts."""
        return super().n_parameters + sum(len(self.head.word_level(k)[1]) for k in range(1, N_WORD_LEVELS + 1))

    def fit_counts(self, ids: Tensor, char_classes: Tensor | None = None) -> None:
        """Count a text; see `CountingModel.fit_counts`. Without classes every symbol is a word."""
        super().fit_counts(ids)
        self.head.char_classes = (
            torch.full_like(self.head.char_classes, OTHER)
            if char_classes is None
            else char_classes.to(self.head.char_classes)
        )
        for k in range(1, N_WORD_LEVELS + 1):
            self.head.replace_words(k, *(part[:0] for part in self.head.word_level(k)))
        self.head.count_words(ids)

    def update_counts(self, ids: Tensor, n_known: int) -> None:
        """Count more; see `CountingModel.update_counts`."""
        super().update_counts(ids, n_known)
        self.head.count_words(ids, n_known)

    def load_counts(self, stored: Mapping[str, Tensor]) -> None:
        """Take over counts that were stored; see `CountingModel.restore`."""
        char_classes, vocab_size = stored["head.char_classes"], self.head.vocab_size
        if char_classes.dtype != torch.uint8 or char_classes.shape != (vocab_size,) or (char_classes > BREAK).any():
            raise ValueError("the kinds of symbols are not one of four for each")
        words = [(stored[f"head.word_keys_{k}"], stored[f"head.word_counts_{k}"]) for k in range(1, N_WORD_LEVELS + 1)]
        for k, level in enumerate(words, 1):
            check_level(level, N_CONTEXTS * vocab_size, f"level {k} of words")
        super().load_counts(stored)
        self.head.char_classes = char_classes.to(self.head.char_classes)
        for k, level in enumerate(words, 1):
            self.head.replace_words(k, *level)

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: of `NGram`, and of `word_contexts`; None starts afresh.

        Returns:
            features: nodes as of `NGram`, and contexts of words, long, (B, T, n + 4).
            state: as above.
        """
        of_chars, of_words = (None, None) if state is None else state
        nodes, of_chars = super().features(chars, of_chars)
        contexts, of_words = word_contexts(chars, self.head.char_classes, of_words)
        return torch.cat([nodes, contexts], dim=-1), (of_chars, of_words)

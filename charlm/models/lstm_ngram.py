"""An LSTM that is told what counting expects, and corrects it: what a small text says need not be learned again.

    e_k = max(0, ln p_k(w) + ln V) for every w: by how much it is likelier than by chance. p_1 is by n-grams, p_2 by
          words (word_ngram.py), p_3 by the characters that were read of late, p_4 by the words of late (recent.py)
    h_t, c_t = lstm([embedding of the character at step t; e_1, ..., e_K], h_{t-1}, c_{t-1})
    p = softmax(W h_t + b + g_1 ln p_1 + ... + g_K ln p_K),    g = W_g h_t + b_g

So p begins near the geometric mean of what is expected, with g_k = 1 / K and small W. The LSTM learns whom to trust
when, and what all of them leave over. What is unlikely is left out of what it reads: of V symbols nearly all are, by
many nats, and large numbers in nearly every input would drown the few that matter.

The counts are made before the first step. Counts of the training text know each next character of that very text, and
what is said around it. So while training, each of eight parts of the text is expected by counts of the other seven
(cross-fitting): the LSTM learns how far counting is to be trusted on a text that was not counted, and spends its own
numbers on what counting cannot know. In evaluation all counts have their say. While training, what is expected is kept
in memory, 8 V bytes a character. That may be 4 GiB: of a text of more than some six million characters the LSTM learns
from the last ones alone, in parts no longer than an eighth of the text, and up to a hundred million are counted. What
was read of late begins with each part, so that a text's beginning is nothing new.

References: a network that learns what an n-gram leaves over, Li et al. (2022), arXiv:2210.14431; a product of experts,
Hinton (2002), Neural Computation 14(8), weighed by context, Mahoney (2005), Adaptive weighing of context models for
lossless data compression, CS-2005-16, Florida Tech; inputs made by models that have not seen what is to be
predicted, Wolpert (1992), Neural Networks 5(2).

Shapes: B batch_size, T characters, E n_embed, H n_hidden, K opinions, L n_layers, V vocab_size.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from charlm.models.base import State
from charlm.models.counting import CountingModel
from charlm.models.layers.dropout import LockedDropout
from charlm.models.lstm import LSTM
from charlm.models.ngram import NGram, safe_log
from charlm.models.word_ngram import WordNGram
from charlm.ngrams.cache_model import N_REMEMBERED, recent_probs, recent_word_probs
from charlm.ngrams.word_contexts import N_WORD_LEVELS

N_FOLDS = 8  # parts of the training text
N_COUNTED = 100_000_000  # characters at most, for the sake of memory: the last ones
MAX_CACHED = 1 << 31  # numbers that are kept of what is expected in them, two bytes each
N_BEFORE = 256  # characters that are read before a part, for what they say of its beginning
N_AT_ONCE = 4096  # characters looked up at once: less memory is quicker


class ExpertHead(nn.Module):
    """From what the LSTM knows, and what is expected, to the logits.

    Args:
        own: from what the LSTM knows to logits of its own.
        n_hidden: H.
        n_experts: K.
    """

    def __init__(self, own: nn.Module, n_hidden: int, n_experts: int) -> None:
        super().__init__()
        self.trust = nn.Linear(n_hidden, n_experts)  # g
        self.own = own
        nn.init.zeros_(self.trust.weight)
        nn.init.constant_(self.trust.bias, 1 / n_experts)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, float, (B, T, V), from `LSTMNGram.features`, (B, T, H + K V)."""
        n_hidden, n_experts = self.trust.in_features, self.trust.out_features
        hidden = features[..., :n_hidden]
        expected = features[..., n_hidden:].reshape(*hidden.shape[:-1], n_experts, -1)  # ln p_k + ln V
        logits: Tensor = self.own(hidden) + (self.trust(hidden).unsqueeze(-1) * expected).sum(dim=-2)
        return logits


class LSTMNGram(LSTM, CountingModel):
    """Predict each next character by an LSTM that corrects what counts expect.

    Args:
        vocab_size: V.
        order: n of the n-grams.
        words: count words, too.
        recent: count what was read of late, too, and of words, its words.
        n_embed: E.
        n_hidden: H.
        n_layers: L.
        dropout: share set to zero between layers, while training.
        input_dropout: locked, on all that the LSTM reads.
        options: the other options of `Recurrent`.
    """

    default_learning_rate = 4e-3

    def __init__(
        self,
        vocab_size: int,
        order: int = 10,
        words: bool = True,
        recent: bool = True,
        n_embed: int = 42,
        n_hidden: int = 256,
        n_layers: int = 1,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size, n_embed, n_hidden, n_layers, dropout, **options)
        self.counts = (WordNGram if words else NGram)(vocab_size, order)
        self.recent = recent
        # The same layers, but wider at the bottom: they read what the counts expect, too.
        n_experts = (1 + words) * (1 + recent)
        self.n_expected = n_experts * vocab_size  # numbers after each character
        n_read = n_embed + self.n_expected
        self.layers = self.make_layers(n_read, n_hidden, n_layers, dropout if n_layers > 1 else 0.0)
        self.input_dropout = LockedDropout(input_dropout)
        self.head = ExpertHead(self.head, n_hidden, n_experts)
        self.expected: Tensor | None = None  # ln p_k + ln V after each character, float16, (N, K V); not stored

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned, counts included."""
        return super().n_parameters + self.counts.n_parameters

    def training_span(self, ids: Tensor) -> Tensor:
        """Return the end of a training text, as much of it as `MAX_CACHED` allows to keep what is expected of."""
        return ids[-min(N_COUNTED, MAX_CACHED // self.n_expected) :]

    def fit_counts(self, ids: Tensor, char_classes: Tensor | None = None) -> None:
        """Count the training text, and note what is expected in each part of its end by counts of all the rest.

        Args:
            ids: the text as indices, (N,).
            char_classes: of the symbols, see `CountingModel.fit_counts`.
        """
        ids = ids[-N_COUNTED:]
        n_learned = len(self.training_span(ids))
        before, n_folds = len(ids) - n_learned, -(-N_FOLDS * n_learned // len(ids))
        self.expected = torch.empty(n_learned, self.n_expected, dtype=torch.float16, device=self.device)
        parts = list(itertools.pairwise(before + n_learned * i // n_folds for i in range(n_folds + 1)))
        parts.append((len(ids), len(ids)))  # nothing: at last all is counted
        for first, stop in tqdm(parts, "counting", leave=False, disable=None, dynamic_ncols=True):
            self.counts.fit_counts(torch.cat([ids[:first], ids[stop:]]), char_classes)
            state: State = None
            for begin in range(max(0, first - N_BEFORE), stop, N_AT_ONCE):
                piece = ids[begin : min(begin + N_AT_ONCE, stop)].long().to(self.device)
                expected, state = self.expect(piece.unsqueeze(0), state)
                here = max(begin, first)
                self.expected[here - before : begin + len(piece) - before] = expected[0, here - begin :]

    def free_training_cache(self) -> None:
        """Forget what is expected in the training text, which may be gigabytes."""
        self.expected = None

    def expect(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return ln p_k + ln V after each character, float, (B, T, K V), and the state.

        The state is that of the counts, and the last characters with their contexts of b and of v b, long, (B, S, 3),
        or alone, (B, S, 1).
        """
        of_counts, before = (None, None) if state is None else state
        contexts, of_counts = self.counts.features(chars, of_counts)
        log_probs = self.counts.head.expert_log_probs(contexts)  # (B, T, K, V)
        n_read, vocab_size = chars.shape[1], log_probs.shape[-1]
        if self.recent:
            words, read = isinstance(self.counts, WordNGram), chars.unsqueeze(2)
            if words:
                read = torch.cat([read, contexts[..., -N_WORD_LEVELS:][..., :2]], dim=2)
            if before is not None:
                read = torch.cat([before, read], dim=1)
            of_late = [recent_probs(read[..., 0], n_read, vocab_size)]
            if words:
                of_late.append(recent_word_probs(read[..., 0], read[..., 1:], n_read, vocab_size))
            log_probs = torch.cat([log_probs, safe_log(torch.stack(of_late, dim=2))], dim=2)
            before = read[:, -N_REMEMBERED:]
        return log_probs.flatten(2) + math.log(vocab_size), (of_counts, before)

    def state_at(self, row_offsets: Tensor) -> State:
        """Return the initial state of rows of the training text: they are expected by counts of the other parts."""
        return None if self.expected is None else (None, row_offsets)

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: of the LSTM, a pair, and of the counts; None starts afresh. From `state_at`, the second is the
                position of each row in the training text, long, (B,).

        Returns:
            features: the last layer's h_1..h_T, and beside each ln p_k + ln V, float, (B, T, H + K V).
            state: as above.
        """
        of_lstm, of_counts = (None, None) if state is None else state
        if isinstance(of_counts, Tensor):
            assert self.expected is not None
            expected = self.expected[of_counts.unsqueeze(1) + torch.arange(chars.shape[1], device=chars.device)]
            of_counts = of_counts + chars.shape[1]
        else:
            expected, of_counts = self.expect(chars, of_counts)
        embedded = self.embed(chars)
        expected = expected.to(embedded)
        told = torch.cat([embedded, expected.clamp(min=0)], dim=-1)
        hidden, of_lstm = self.layers(self.input_dropout(told), of_lstm)
        return torch.cat([hidden, expected], dim=-1), (of_lstm, of_counts)

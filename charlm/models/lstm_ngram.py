"""LSTM with n-gram experts: logits = LSTM logits + weighted n-gram log-probabilities.

    e_k = ln p_k(w) + ln V for every w, for experts k = 1..K: p_1 by n-grams of characters, p_2 of words, p_3 and p_4
          by cache models of both (ngrams/experts.py)
    h_t, c_t = lstm([embedding of the character at step t; max(0, e_1), ..., max(0, e_K)], h_{t-1}, c_{t-1})
    p = softmax(W h_t + b + g_1 e_1 + ... + g_K e_K),    g = W_g h_t + b_g

Initially g_k = 1 / K and W is small, so p is near the geometric mean of the experts. The LSTM learns the weights g and
the residual. Its input is clipped at 0, the uniform distribution: nearly all symbols have e_k far below 0, and these
large values would dominate the input.

With folded words, there are further experts, one for each of five contexts of words in lower case
(ngrams/word_ngram.py). They have weights in the sum, but the LSTM does not read their distributions. It reads the
log-ratio of the character x_t at step t by each of all K experts, r_k = e_k(x_t) with e_k of step t - 1:

    h_t, c_t = lstm([embedding of x_t; max(0, e_1), ..., max(0, e_4); r_1, ..., r_K], h_{t-1}, c_{t-1})

The text is counted before the first step, with cross-fitting over 8 folds of the training text: the features of each
fold are computed with the counts of the other seven, and with those that are kept of earlier texts. Otherwise the
n-grams would predict the training text too well, and the LSTM would learn to rely on them. Evaluation uses the counts
of all folds. In training, the features are cached in float16, 2 K V bytes per character. The cache is limited to one
GiB. In a text of more than about 700,000 characters (K = 9, V = 85), gradient steps therefore use only the last ones,
in folds of at most an eighth of the text; counts use up to eight million characters. The cache models start empty in
each fold, so that the LSTM learns the beginning of a text, too.

References: a network that learns the residual of an n-gram model, Li et al. (2022), arXiv:2210.14431; product of
experts, Hinton (2002), Neural Computation 14(8); weights by context, Mahoney (2005), Adaptive weighing of context
models for lossless data compression, CS-2005-16, Florida Tech; cross-fitting, Wolpert (1992), Neural Networks 5(2).

Shapes: N characters of text, B batch_size, T characters, E n_embed, H n_hidden, K experts, L n_layers, V vocab_size.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from charlm.messages import no_bars
from charlm.models.base import State
from charlm.models.counting import CountingModel
from charlm.models.layers.dropout import LockedDropout
from charlm.models.lstm import LSTM
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.experts import Experts
from charlm.ngrams.word_ngram import InterpolatedWordNGram

N_FOLDS = 8
WARMUP_CHARS = 256  # read before a fold for the contexts at its beginning
CHUNK_CHARS = 4096  # features are computed for this many characters at a time; larger arrays are slower


class ExpertHead(nn.Module):
    """From hidden states and features of the experts to logits.

    Args:
        base_head: from hidden states to the LSTM's own logits.
        n_hidden: H.
        n_experts: K.
    """

    def __init__(self, base_head: nn.Module, n_hidden: int, n_experts: int) -> None:
        super().__init__()
        self.expert_weights = nn.Linear(n_hidden, n_experts)  # g
        self.base_head = base_head
        nn.init.zeros_(self.expert_weights.weight)
        nn.init.constant_(self.expert_weights.bias, 1 / n_experts)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, float, (B, T, V), from `LSTMNGram.features`, (B, T, H + K V)."""
        n_hidden, n_experts = self.expert_weights.in_features, self.expert_weights.out_features
        hidden = features[..., :n_hidden]
        experts = features[..., n_hidden:].reshape(*hidden.shape[:-1], n_experts, -1)
        logits: Tensor = self.base_head(hidden) + (self.expert_weights(hidden).unsqueeze(-1) * experts).sum(dim=-2)
        return logits


class LSTMNGram(LSTM, CountingModel):
    """Language model with `nn.LSTM` and n-gram experts.

    Args:
        vocab_size: V.
        order: n of the n-grams.
        words: use n-grams of words, too.
        cache_model: use the cache models, too.
        folded_words: with `words`, use the experts of words in lower case, too.
        n_embed: E, embedding size.
        n_hidden: H, hidden size of each layer.
        n_layers: L.
        dropout: dropout probability between layers.
        input_dropout: probability of locked dropout on the LSTM's input.
        options: the other options of `Recurrent`.

    Attributes:
        max_counted: maximum number of counted characters; of a longer text, the last ones.
        max_cached: maximum number of cached feature values, two bytes each.
    """

    _cached: Tensor | None

    default_learning_rate = 4e-3
    max_counted = 8_000_000
    max_cached = 1 << 29

    def __init__(
        self,
        vocab_size: int,
        order: int = 10,
        words: bool = True,
        cache_model: bool = True,
        folded_words: bool = False,
        n_embed: int = 42,
        n_hidden: int = 256,
        n_layers: int = 1,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size, n_embed, n_hidden, n_layers, dropout, **options)
        self.counts = (
            InterpolatedWordNGram(vocab_size, order, folded_words) if words else InterpolatedNGram(vocab_size, order)
        )
        self.experts = Experts(self.counts, cache_model)
        self.n_features = self.experts.n_experts * vocab_size
        # The same layers with a wider input.
        n_inputs = n_embed + self.experts.n_inputs
        self.n_after_symbols = {"layers.weight_ih_l0": self.experts.n_ratios}
        self.layers = self.make_layers(n_inputs, n_hidden, n_layers, dropout if n_layers > 1 else 0.0)
        self.input_dropout = LockedDropout(input_dropout)
        self.head = ExpertHead(self.head, n_hidden, self.experts.n_experts)
        # Features after each character of the training span, float16, (N, K V).
        self.register_buffer("_cached", None, persistent=False)

    def training_span(self, ids: Tensor) -> Tensor:
        """Return the suffix of a training text whose features fit into the cache."""
        return ids[-min(self.max_counted, self.max_cached // self.n_features) :]

    def fit_counts(self, ids: Tensor, char_classes: Tensor | None = None, lower: Tensor | None = None) -> None:
        """Count the training text, and cache the features of its end, cross-fitted over folds.

        Args:
            ids: the text as indices, (N,).
            char_classes: class of each symbol, see `CountingModel.fit_counts`.
            lower: index of the lower-case form of each symbol.
        """
        ids = ids[-self.max_counted :]
        n_learned = len(self.training_span(ids))
        offset, n_folds = len(ids) - n_learned, -(-N_FOLDS * n_learned // len(ids))  # the span begins at offset
        self._cached = torch.empty(n_learned, self.n_features, dtype=torch.float16, device=self.device)
        folds = list(itertools.pairwise(offset + n_learned * i // n_folds for i in range(n_folds + 1)))
        folds.append((len(ids), len(ids)))  # empty: the final counts are those of the whole text
        for first, stop in tqdm(folds, "counting", leave=False, disable=no_bars(), dynamic_ncols=True):
            super().fit_counts(torch.cat([ids[:first], ids[stop:]]), char_classes, lower)
            state: State = None
            for begin in range(max(0, first - WARMUP_CHARS), stop, CHUNK_CHARS):
                chars = ids[begin : min(begin + CHUNK_CHARS, stop)].long()
                features, state = self.expert_features(chars.unsqueeze(0), state)
                start = max(begin, first)  # after the warm-up
                self._cached[start - offset : begin + len(chars) - offset] = features[0, start - begin :]

    def free_training_cache(self) -> None:
        """Release the cached features of the training text, and counts that were kept."""
        super().free_training_cache()
        self._cached = None

    def expert_features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return e_k after each character, float, (B, T, K V), and the state of the experts; both are on the CPU."""
        arrays = None if state is None else tuple(part.cpu().numpy() for part in state)
        features, after = self.experts.read(chars.cpu().numpy(), arrays)
        return torch.from_numpy(features).flatten(2), tuple(map(torch.from_numpy, after))

    def _experts_around(self, chars: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Return e_k before and after each character, each float, (B, T, K V), and the state; see `features`.

        Before the first character of a text, they are 0.
        """
        if isinstance(state, Tensor):  # positions in the cache
            assert self._cached is not None
            positions = state.unsqueeze(1) + torch.arange(chars.shape[1], device=chars.device)
            after = self._cached[positions]
            first = self._cached[(state - 1).clamp(min=0)] * (state > 0).unsqueeze(1)
            state = state + chars.shape[1]
        else:
            last, of_experts = (None, None) if state is None else state
            after, of_experts = self.expert_features(chars, of_experts)
            first = torch.zeros_like(after[:, 0]) if last is None else last
            state = (after[:, -1], of_experts)
        return torch.cat([first.to(after).unsqueeze(1), after[:, :-1]], dim=1), after, state

    def freeze_cache(self, state: State, n_texts: int) -> State:
        """Return a state after which the cache models count no further characters; see `HasCacheModel`."""
        of_lstm, (last, of_experts) = (None, (None, None)) if state is None else state
        arrays = None if of_experts is None else tuple(part.cpu().numpy() for part in of_experts)
        frozen = self.experts.freeze(arrays, n_texts)
        return of_lstm, (last, None if frozen is None else tuple(map(torch.from_numpy, frozen)))

    def state_at(self, row_offsets: Tensor) -> State:
        """Return the initial state of rows of the training text, whose features are cross-fitted."""
        return None if self._cached is None else (None, row_offsets)

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Run the experts and the layers over a batch.

        Args:
            chars: character indices, long, (B, T).
            state: (h_0, c_0) of the LSTM, and (e_1..e_K of the last character, (B, K V), state of the experts); None
                for zeros. In training (`state_at`), the latter is the position of each row in the training span, long,
                (B,).

        Returns:
            features: h_1..h_T of the last layer, and e_1..e_K after each character, float, (B, T, H + K V).
            state: as above.
        """
        lstm_state, expert_state = (None, None) if state is None else state
        before, experts, expert_state = self._experts_around(chars, expert_state)
        embedded = self.embed(chars)
        experts = experts.to(embedded)
        inputs = [embedded, experts[..., : self.experts.n_main * self.vocab_size].clamp(min=0)]
        if self.experts.n_ratios:
            by_expert = before.to(embedded).view(*chars.shape, -1, self.vocab_size)  # (B, T, K, V)
            inputs.append(torch.take_along_dim(by_expert, chars[..., None, None], dim=-1).squeeze(-1))
        hidden, lstm_state = self.layers(self.input_dropout(torch.cat(inputs, dim=-1)), lstm_state)
        return torch.cat([hidden, experts], dim=-1), (lstm_state, expert_state)

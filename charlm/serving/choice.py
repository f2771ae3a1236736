"""Choice: one text of a response, built part by part: characters, log-probabilities and finish reason.

Shapes: V vocab_size, K likeliest characters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from charlm.data.vocab import FLUSH, Vocab
from charlm.errors import CharlmError
from charlm.generation.generator import StopSearch
from charlm.generation.sampler import NOT_FINITE, log_softmax

MIN_LOGPROB = -9999.0  # JSON has no infinity
Token = tuple[str, float | None, dict[str, float] | None, int]  # text, log-probability, likeliest, offset


class Choice:
    """One text of a response.

    Args:
        index: of the text in the response.
        vocab: of the model.
        max_tokens: characters to sample.
        stops: stop sequences; the text ends before the first one found.
        n_likely: K, likeliest characters to report; None reports no log-probabilities.

    Attributes:
        n_sampled: characters sampled so far.
        finish_reason: "stop" or "length" at the end, else None.
    """

    def __init__(self, index: int, vocab: Vocab, max_tokens: int, stops: Sequence[str], n_likely: int | None) -> None:
        self.index, self.vocab, self.max_tokens, self.n_likely = index, vocab, max_tokens, n_likely
        self.n_sampled, self.finish_reason = 0, cast(str | None, None)
        self._search, self._decode = StopSearch(stops), vocab.decoder()
        self._n_decoded = self._n_released = 0  # characters of the text
        self._tokens: list[Token] = []  # not released yet
        self._symbols = [_token_text(vocab, index) for index in range(len(vocab))] if n_likely is not None else []

    def echo(self, prompt: str) -> dict[str, Any]:
        """Return a prompt as the beginning of the text, without log-probabilities."""
        self._n_decoded = self._n_released = len(prompt)
        return self._part(prompt, [])

    def echo_part(self, ids: Sequence[int], symbols: Sequence[str], logits: NDArray[Any]) -> dict[str, Any]:
        """Return the next part of a prompt as a part of the text, with log-probabilities.

        Args:
            ids: of the part.
            symbols: its characters, since id 0 does not identify an unknown one; not used for bytes.
            logits: before each of them, (N, V).

        Raises:
            CharlmError: the logits are not finite.
        """
        text = ""
        for i, (index, row) in enumerate(zip(ids, log_softmax(logits), strict=True)):
            self._add_token(index, row, None if self.vocab.is_bytes or index else symbols[i])
            decoded = self._decode(index) if self.vocab.is_bytes else symbols[i]
            self._n_decoded += len(decoded)
            text += decoded
        self._n_released = self._n_decoded
        tokens, self._tokens = self._tokens, []
        return self._part(text, tokens)

    def accept(self, index: int, logits: NDArray[Any]) -> dict[str, Any] | None:
        """Add a sampled character.

        Args:
            index: of the character.
            logits: from which it was sampled, (V,).

        Returns:
            the next part of the text that cannot belong to a stop sequence; None if there is none yet.
        """
        self.n_sampled += 1
        decoded = self._decode(index)
        if self.n_likely is not None:
            self._add_token(index, log_softmax(logits))
        is_last = self.n_sampled == self.max_tokens
        decoded += self._decode(FLUSH) if is_last else ""
        self._n_decoded += len(decoded)
        text = self._search.push(decoded)
        if self._search.found:
            self.finish_reason = "stop"
        elif is_last:
            self.finish_reason = "length"
            text += self._search.pending
        self._n_released += len(text)
        if not text and self.finish_reason is None:
            return None
        tokens = self._tokens_before(self._n_released)
        if self.finish_reason == "length":
            tokens, self._tokens = tokens + self._tokens, []
        return self._part(text, tokens)

    def _add_token(self, index: int, log_probs: NDArray[Any], text: str | None = None) -> None:
        if not math.isfinite(log_probs.max()):
            raise CharlmError(NOT_FINITE)
        likely = np.argsort(-log_probs[1:], kind="stable")[: self.n_likely] + 1 if self.n_likely else np.empty(0, int)
        top = {self._symbols[k]: _finite(log_probs[k]) for k in likely.tolist()}
        text = self._symbols[index] if text is None else text
        if self.n_likely:
            top.setdefault(text, _finite(log_probs[index]))
        self._tokens.append((text, _finite(log_probs[index]), top or None, self._n_decoded))

    def _tokens_before(self, position: int) -> list[Token]:
        n = next((i for i, token in enumerate(self._tokens) if token[3] >= position), len(self._tokens))
        tokens, self._tokens = self._tokens[:n], self._tokens[n:]
        return tokens

    def end(self) -> dict[str, Any]:
        """Return the last part of a text with `max_tokens` 0."""
        self.finish_reason = "length"
        return self._part("", [])

    def _part(self, text: str, tokens: Sequence[Token]) -> dict[str, Any]:
        return {
            "index": self.index,
            "text": text,
            "logprobs": None if self.n_likely is None else logprobs_of(tokens),
            "finish_reason": self.finish_reason,
            "n_sampled": self.n_sampled,
        }


def logprobs_of(tokens: Sequence[Token]) -> dict[str, list[Any]]:
    """Return log-probabilities as OpenAI's protocol has them: a list for each property of the tokens."""
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [token[i] for token in tokens] for i, name in enumerate(names)}


def join_parts(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return consecutive parts of a text as one."""
    joined = dict(parts[-1], text="".join(part["text"] for part in parts))
    if joined["logprobs"] is not None:
        names = joined["logprobs"].keys()
        joined["logprobs"] = {name: [each for part in parts for each in part["logprobs"][name]] for name in names}
    return joined


def _finite(log_prob: Any) -> float:
    return max(float(log_prob), MIN_LOGPROB)


def _token_text(vocab: Vocab, index: int) -> str:
    r"""Return a symbol of the vocabulary as a token; a byte beyond ASCII as OpenAI's `bytes:\xc3`."""
    if index == 0:
        return "\ufffd"
    point = int(vocab.codepoints[index - 1])
    return f"bytes:\\x{point:02x}" if vocab.is_bytes and point > 0x7F else chr(point)

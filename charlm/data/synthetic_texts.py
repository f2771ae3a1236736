"""Texts of known entropy and structure, from seeded random sources: what a model can learn of them is known.

    markov:K     each letter depends on the K letters before it
    brackets:D   nested brackets of three kinds, at most D deep; a closing bracket is that of the innermost open one
    copy:N       N random letters, a bar, the same letters, a line break
    parity:N     N random binary digits, =, their sum modulo 2, a line break

`entropy` returns the entropy rate of a source, the least mean bits per character that any model can reach on a long
text of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from charlm.errors import DataError

N_CHARS = 200_000  # of each text, up to the end of its last line
MARKOV_LETTERS, COPY_LETTERS = "abcdefgh", "abcdefghijklmnopqrstuvwxyz"
PAIRS = ("()", "[]", "{}")
DEFAULTS = {"markov": (2, 1, 4), "brackets": (4, 1, 64), "copy": (8, 1, 1000), "parity": (8, 1, 1000)}


def _argument(kind: str, argument: str) -> int:
    """Return the number after the colon, or the default.

    Raises:
        DataError: it is no number in the range of this text.
    """
    default, least, most = DEFAULTS[kind]
    if argument and not (argument.isdecimal() and len(argument) < 6 and least <= int(argument) <= most):
        raise DataError(f"{kind}:{argument[:20]}: the part after the colon must be a number from {least} to {most}")
    return int(argument or default)


def _uniform(seed: int = 0) -> Iterator[float]:
    generator = np.random.Generator(np.random.PCG64(seed))
    while True:
        yield from generator.random(4096).tolist()


def _transitions(order: int) -> NDArray[np.float64]:
    """Return the probability of each letter after each context of a Markov source, (letters ** order, letters)."""
    n = len(MARKOV_LETTERS)
    weights = np.log(1 - np.random.Generator(np.random.PCG64(1)).random((n**order, n))) ** 4
    probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probs


def markov(argument: str = "", seed: int = 0, n_chars: int = N_CHARS) -> str:
    """Return a text of a Markov source; see the module.

    Args:
        argument: the number after the colon.
        seed: of the draw; the source itself is always the same.
        n_chars: length.

    Raises:
        DataError: the part after the colon is out of range.
    """
    order = _argument("markov", argument)
    sums, n, context = np.cumsum(_transitions(order), axis=1), len(MARKOV_LETTERS), 0
    letters = []
    for _, uniform in zip(range(n_chars), _uniform(seed), strict=False):
        letter = min(int(np.searchsorted(sums[context], uniform, "right")), n - 1)
        letters.append(MARKOV_LETTERS[letter])
        context = (context * n + letter) % n**order
    return "".join(letters)


def brackets(argument: str = "") -> str:
    """Return nested brackets; see the module.

    Below the largest depth, a bracket is opened with probability 1/2 and always where none is open; its kind is random.

    Raises:
        DataError: the part after the colon is out of range.
    """
    depth, uniform = _argument("brackets", argument), _uniform()
    symbols: list[str] = []
    closing: list[str] = []  # of the open brackets
    while len(symbols) < N_CHARS or closing:
        if not closing or (len(closing) < depth and next(uniform) < 0.5):
            pair = PAIRS[int(next(uniform) * len(PAIRS))]
            symbols.append(pair[0])
            closing.append(pair[1])
        else:
            symbols.append(closing.pop())
    return "".join(symbols)


def copy(argument: str = "") -> str:
    """Return lines that repeat their first half; see the module.

    Raises:
        DataError: the part after the colon is out of range.
    """
    length, uniform = _argument("copy", argument), _uniform()
    n_lines = N_CHARS // (2 * length + 2) + 1
    words = ("".join(COPY_LETTERS[int(next(uniform) * 26)] for _ in range(length)) for _ in range(n_lines))
    return "".join(f"{word}|{word}\n" for word in words)


def parity(argument: str = "") -> str:
    """Return lines of binary digits and their parity; see the module.

    Raises:
        DataError: the part after the colon is out of range.
    """
    length, uniform = _argument("parity", argument), _uniform()
    n_lines = N_CHARS // (length + 3) + 1
    words = ("".join("01"[next(uniform) < 0.5] for _ in range(length)) for _ in range(n_lines))
    return "".join(f"{word}={word.count('1') % 2}\n" for word in words)


def entropy(kind: str, argument: str = "") -> float:
    """Return the entropy rate of a source, in bits per character.

    Args:
        kind: "markov", "brackets", "copy" or "parity".
        argument: the part of the text's name after the colon.

    Raises:
        DataError: it is out of range.
    """
    n = _argument(kind, argument)
    if kind == "copy":
        return n * math.log2(len(COPY_LETTERS)) / (2 * n + 2)
    if kind == "parity":
        return n / (n + 3)
    if kind == "brackets":
        # From depth d a bracket is opened with probability 1/2 (1 at depth 0, 0 at depth n): a walk whose stationary
        # distribution is 1/2 at both ends relative to 1 inside.
        inside = max(0, n - 1)
        bits = 0.5 * math.log2(3) + inside * (1 + 0.5 * math.log2(3))
        return bits / (inside + 1)
    probs, n_letters = _transitions(n), len(MARKOV_LETTERS)
    stationary = np.full(len(probs), 1 / len(probs))
    for _ in range(1000):  # from context c, letter l leads to context (c * n_letters + l) % len(probs)
        stationary = (stationary[:, None] * probs).reshape(n_letters, -1, n_letters).sum(axis=0).ravel()
    return float(-(stationary[:, None] * probs * np.log2(probs)).sum())


SOURCES: dict[str, Callable[[str], str]] = {"markov": markov, "brackets": brackets, "copy": copy, "parity": parity}

"""Contexts of words as numbers: the letters of the present word, the words before it, and the length of the line.

After each character, b are the letters read since the word began, v is the word, or the single other symbol (a mark),
before it, u the one before v, and l the number of characters of the line. With each letter

    b <- (b FACTOR + letter + 1) mod MODULUS

and the contexts are b, b xor h(v), b xor h(v xor h(u)), and l, where h(x) = (x MULTIPLIER mod 2^64) / 2^20. All are
below 2^44, so collisions among a million contexts are rare.

Reference: h, multiplicative hashing, Knuth (1973), The Art of Computer Programming 3, section 6.4; MULTIPLIER, of MMIX.

Shapes: B batch_size, T characters, N characters of text, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.data.vocab import BREAK, LETTER, OTHER
from charlm.ngrams.levels import Ints

N_WORD_LEVELS = 4  # b, v b, u v b, and l
N_CONTEXTS = 2**44
MODULUS, FACTOR = 2**44 - 17, 262_139  # products stay below 2^63
MULTIPLIER = 6_364_136_223_846_793_005
MAX_LENGTH = 255  # of a line; longer ones are not distinguished


def hash_mix(words: Any) -> Any:
    """Multiplicative hash to 44 bits, of an int or int64 array."""
    return words * MULTIPLIER >> 20 & N_CONTEXTS - 1


def combine(begun: Any, before: Any, further: Any) -> tuple[Any, Any]:
    """Return the contexts v b and u v b from b, v and u; each an int or an int64 array."""
    return begun ^ hash_mix(before), begun ^ hash_mix(before ^ hash_mix(further))


def add_letter(begun: Any, letter: Any) -> Any:
    """Return b after one more letter; each an int or an int64 array."""
    return (begun * FACTOR + letter + 1) % MODULUS


def word_contexts(chars: Ints, char_classes: NDArray[np.uint8], state: Ints | None = None) -> tuple[Ints, Ints]:
    """Return the contexts of words after each character of a batch of texts.

    Args:
        chars: character indices, int64, (B, T).
        char_classes: class of each symbol, uint8, (V,).
        state: from the previous call; None before the first characters.

    Returns:
        contexts: b, v b, u v b, and l, int64, (4, B, T).
        state: b, v, u and l, int64, (B, 4).
    """
    classes = char_classes[chars]
    begun, before, further, length = np.zeros((4, len(chars)), np.int64) if state is None else state.T
    begins = _begun_words(chars, classes == LETTER, begun)
    # What ends at each character: the word before it, and then, if it is one, the mark. At first u and v have ended.
    ended = np.zeros((len(chars), 1 + chars.shape[1], 2), np.int64)
    ended[:, 0] = np.stack([further, before], axis=1)
    ended[:, 1:, 0] = np.where(classes == LETTER, 0, np.column_stack([begun, begins[:, :-1]]))
    ended[:, 1:, 1] = np.where(classes == OTHER, chars + 1, 0)
    ends = ended != 0
    ends[:, 0] = True
    last, words = ends.cumsum().reshape(ends.shape)[:, 1:, 1] - 1, ended[ends]
    befores, furthers = words[last], words[last - 1]
    place = np.arange(chars.shape[1])
    last_break = np.maximum.accumulate(np.where(classes == BREAK, place, -1 - length[:, None]), axis=1)
    lengths = np.minimum(place - last_break, MAX_LENGTH)
    after = np.stack([part[:, -1] for part in (begins, befores, furthers, lengths)], axis=1)
    return np.stack([begins, *combine(begins, befores, furthers), lengths]), after


def word_contexts_step(char: int, char_class: int, state: Sequence[int] = (0, 0, 0, 0)) -> tuple[list[int], list[int]]:
    """Return the contexts, (4,), and the state, (4,), after one character of one text; see `word_contexts`."""
    begun, before, further, length = state
    length = 0 if char_class == BREAK else min(length + 1, MAX_LENGTH)
    if char_class == LETTER:
        begun = add_letter(begun, char)
    else:
        if begun:
            further, before, begun = before, begun, 0
        if char_class == OTHER:
            further, before = before, char + 1
    return [begun, *combine(begun, before, further), length], [begun, before, further, length]


def _begun_words(ids: Ints, is_letter: NDArray[np.bool_], begun: Ints) -> Ints:
    """Return b after each character, (B, T), from b before the first, (B,): in all words the first letters first."""
    found = np.where(is_letter, add_letter(0, ids), 0)
    found[:, 0] = np.where(is_letter[:, 0], add_letter(begun, ids[:, 0]), 0)
    goes_on = np.zeros_like(is_letter)
    goes_on[:, 1:] = is_letter[:, 1:] & is_letter[:, :-1]
    flat, letters, follows = found.ravel(), ids.ravel(), np.append(goes_on, False)
    place = np.flatnonzero(is_letter & ~goes_on) + 1
    while len(place := place[follows[place]]):
        flat[place] = add_letter(flat[place - 1], letters[place])
        place += 1
    return found


def start_of_contexts(classes: NDArray[np.uint8]) -> int:
    """Return a position from which reading a text gives the right contexts after its last symbol.

    There u begins: of the words that have ended and the marks, the last but one. The length of the line needs
    `MAX_LENGTH` characters.

    Args:
        classes: of the text's symbols, uint8, (N,).
    """
    letter = (classes == LETTER).astype(np.int8)
    turns = np.flatnonzero(np.diff(letter, prepend=np.int8(0)))  # where a word begins, ends, begins, ends
    words, marks = turns[: len(turns) // 2 * 2 : 2], np.flatnonzero(classes == OTHER)
    begins: int = sorted([0, 0, *words[-2:].tolist(), *marks[-2:].tolist()])[-2]
    return min(begins, max(0, len(classes) - MAX_LENGTH))

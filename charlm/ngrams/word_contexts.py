"""Contexts of words as numbers: the letters of the current word, the words before it, and the length of the line.

After each character, b are the letters of the current word so far (0 between words), v is the previous word or
punctuation mark (any symbol that is neither letter nor white space), u the one before v, and l the number of characters
in the line so far. With each letter

    b <- (b FACTOR + letter + 1) mod MODULUS

In a run of r >= 2 blanks, b = -r mod MODULUS instead; a line break before the run is its first character. So the length
of an indentation is known, and a single blank or line break has b = 0. The context of a word x and b is

    x b = b xor h(x),    h(x) = (x MULTIPLIER mod 2^64) / 2^20

The contexts of words are b, v b, u v b = b xor h(v xor h(u)), and l. Those of folded words are of the text in lower
case: b, v b, u b, m b with m the last punctuation mark, and 2 l, plus 1 if the last character is a letter. All are
below 2^44, so collisions among a million contexts are rare.

Reference: h, multiplicative hashing, Knuth (1973), The Art of Computer Programming 3, section 6.4; MULTIPLIER, of MMIX.

Shapes: B batch_size, T characters, N characters of text, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.data.vocab import BLANK, BREAK, LETTER, OTHER
from charlm.ngrams.levels import Ints

N_WORD_LEVELS, N_FOLDED_LEVELS = 4, 5  # contexts of words, and of folded words
LENGTH = 3  # index of l in the contexts of words
N_WORD_STATE, N_FOLDED_STATE = 4, 5  # numbers in the states of `word_contexts` and `folded_contexts`
N_CONTEXTS = 2**44
MODULUS, FACTOR = 2**44 - 17, 262_139  # products stay below 2^63
MULTIPLIER = 6_364_136_223_846_793_005
MAX_LENGTH = 255  # of a line, and of a run of blanks; longer ones count as this long


def hash_mix(words: Any) -> Any:
    """Multiplicative hash to 44 bits, of an int or int64 array."""
    return words * MULTIPLIER >> 20 & N_CONTEXTS - 1


def add_letter(prefix: Any, letter: Any) -> Any:
    """Return b after one more letter; each an int or an int64 array."""
    return (prefix * FACTOR + letter + 1) % MODULUS


def word_contexts(chars: Ints, char_classes: NDArray[np.uint8], state: Ints | None = None) -> tuple[Ints, Ints]:
    """Return the contexts of words after each character of a batch of texts.

    Args:
        chars: character indices, int64, (B, T).
        char_classes: class of each symbol, uint8, (V,).
        state: from the previous call; None before the first characters.

    Returns:
        contexts: b, v b, u v b, and l, int64, (4, B, T).
        state: b (-r in a run of blanks), v, u and l, int64, (B, 4).
    """
    words, after = _words(chars, char_classes[chars], state)
    return np.stack(_of_words(*words)), after


def folded_contexts(
    chars: Ints, char_classes: NDArray[np.uint8], lower: Ints, state: Ints | None = None
) -> tuple[Ints, Ints]:
    """Return the contexts of words in lower case after each character of a batch of texts.

    Args:
        chars: character indices, int64, (B, T).
        char_classes: class of each symbol, uint8, (V,).
        lower: index of the lower-case form of each symbol, int64, (V,).
        state: from the previous call; None before the first characters.

    Returns:
        contexts: b, v b, u b, m b, and 2 l or 2 l + 1, int64, (5, B, T).
        state: as of `word_contexts`, and m, int64, (B, 5).
    """
    if state is None:
        state = np.zeros((len(chars), N_FOLDED_STATE), np.int64)
    classes, chars = char_classes[chars], lower[chars]
    words, after = _words(chars, classes, state[:, :N_WORD_STATE])
    column = np.arange(1, chars.shape[1] + 1)  # column 0 has m of the state
    last_mark = np.maximum.accumulate(np.where(classes == OTHER, column, 0), axis=1)
    marks = np.take_along_axis(np.column_stack([state[:, -1], chars + 1]), last_mark, axis=1)
    return np.stack(_of_folded_words(*words, marks, classes == LETTER)), np.column_stack([after, marks[:, -1]])


def _of_words(prefix: Any, previous: Any, second: Any, length: Any) -> list[Any]:
    """Return the contexts of words from b, v, u and l; each an int or an int64 array."""
    return [prefix, prefix ^ hash_mix(previous), prefix ^ hash_mix(previous ^ hash_mix(second)), length]


def _of_folded_words(prefix: Any, previous: Any, second: Any, length: Any, mark: Any, is_letter: Any) -> list[Any]:
    """Return the contexts of folded words from b, v, u, l, m, and whether the last character is a letter."""
    return [prefix, *(prefix ^ hash_mix(word) for word in (previous, second, mark)), 2 * length + is_letter]


def _words(chars: Ints, classes: NDArray[np.uint8], state: Ints | None) -> tuple[tuple[Ints, Ints, Ints, Ints], Ints]:
    """Return b, v, u and l after each character, each int64, (B, T), and the state; see `word_contexts`.

    Args:
        chars: indices, (B, T).
        classes: of these characters, (B, T).
        state: see `word_contexts`.
    """
    column = np.arange(chars.shape[1])
    prefix, previous, second, length = np.zeros((4, len(chars)), np.int64) if state is None else state.T
    run_start = np.where(classes == BREAK, column, np.where(classes == BLANK, -MAX_LENGTH, column + 1))
    run_start = np.maximum.accumulate(np.maximum(run_start, np.minimum(prefix, 0)[:, None]), axis=1)
    prefixes = _prefixes(chars, classes == LETTER, np.maximum(prefix, 0))
    prefixes = np.where(classes == LETTER, prefixes, -np.minimum(column - run_start + 1, MAX_LENGTH))
    # Up to two words end at each character: the one before it, and the character itself if it is a mark. Column 0 has
    # u and v of the state.
    ended = np.zeros((len(chars), 1 + chars.shape[1], 2), np.int64)
    ended[:, 0] = np.stack([second, previous], axis=1)
    ended[:, 1:, 0] = np.where(classes == LETTER, 0, np.column_stack([prefix, prefixes[:, :-1]]).clip(min=0))
    ended[:, 1:, 1] = np.where(classes == OTHER, chars + 1, 0)
    is_word = ended != 0
    is_word[:, 0] = True
    last, words = is_word.cumsum().reshape(is_word.shape)[:, 1:, 1] - 1, ended[is_word]
    previous, second = words[last], words[last - 1]
    last_break = np.maximum.accumulate(np.where(classes == BREAK, column, -1 - length[:, None]), axis=1)
    lengths = np.minimum(column - last_break, MAX_LENGTH)
    after = np.stack([part[:, -1] for part in (prefixes, previous, second, lengths)], axis=1)
    prefixes = np.where(prefixes == -1, 0, prefixes % MODULUS)
    return (prefixes, previous, second, lengths), after


def word_contexts_step(char: int, char_class: int, state: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the contexts, (4,), and the state, (4,), after one character of one text; see `word_contexts`."""
    words, after = _words_step(char, char_class, state)
    return _of_words(*words), after


def folded_contexts_step(char: int, char_class: int, state: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the contexts, (5,), and the state, (5,), after one character of one text; see `folded_contexts`.

    Args:
        char: index of its lower-case form.
        char_class: its class.
        state: from the previous call; zeros before the first character.
    """
    words, after = _words_step(char, char_class, state[:N_WORD_STATE])
    mark = char + 1 if char_class == OTHER else state[-1]
    return _of_folded_words(*words, mark, char_class == LETTER), [*after, mark]


def _words_step(char: int, char_class: int, state: Sequence[int]) -> tuple[tuple[int, int, int, int], list[int]]:
    """Return b, v, u and l, and the state, after one character; see `_words`."""
    prefix, previous, second, length = state
    length = 0 if char_class == BREAK else min(length + 1, MAX_LENGTH)
    if char_class == LETTER:
        prefix = add_letter(max(prefix, 0), char)
    else:
        if prefix > 0:
            second, previous, prefix = previous, prefix, 0
        if char_class == OTHER:
            second, previous, prefix = previous, char + 1, 0
        else:
            prefix = -1 if char_class == BREAK else max(prefix - 1, -MAX_LENGTH)
    begun = 0 if prefix == -1 else prefix % MODULUS
    return (begun, previous, second, length), [prefix, previous, second, length]


def nearest_known(lengths: Ints) -> Ints:
    """Return for each length of a line, 0..MAX_LENGTH, the nearest of some lengths, the longer one of two, int64.

    Args:
        lengths: ascending. A greater length is returned itself, as is every length if there are none.
    """
    every = np.arange(MAX_LENGTH + 1)
    if not len(lengths):
        return every
    after = lengths.searchsorted(every).clip(max=len(lengths) - 1)
    below, above = lengths[np.maximum(after - 1, 0)], lengths[after]
    nearest = np.where(np.abs(above - every) <= np.abs(every - below), above, below)
    return np.where(every > lengths[-1], every, nearest)


def _prefixes(ids: Ints, is_letter: NDArray[np.bool_], prefix: Ints) -> Ints:
    """Return b after each character, (B, T), given b before the first one, (B,).

    Each round adds one letter to all words that have that many.
    """
    found = np.where(is_letter, add_letter(0, ids), 0)
    found[:, 0] = np.where(is_letter[:, 0], add_letter(prefix, ids[:, 0]), 0)
    continues = np.zeros_like(is_letter)
    continues[:, 1:] = is_letter[:, 1:] & is_letter[:, :-1]
    flat, letters, is_next = found.ravel(), ids.ravel(), np.append(continues, False)
    position = np.flatnonzero(is_letter & ~continues) + 1
    while len(position := position[is_next[position]]):
        flat[position] = add_letter(flat[position - 1], letters[position])
        position += 1
    return found


def start_of_contexts(classes: NDArray[np.uint8]) -> int:
    """Return a position from which to read a text so that the contexts after its last symbol are exact.

    It is the beginning of u, the last but one of the completed words and marks, or the last mark, or `MAX_LENGTH`
    characters before the end, which the length of the line needs, whichever is first.

    Args:
        classes: of the text's symbols, uint8, (N,).
    """
    letter = (classes == LETTER).astype(np.int8)
    edges = np.flatnonzero(np.diff(letter, prepend=np.int8(0)))  # begin and end of each word in turn
    words, marks = edges[: len(edges) // 2 * 2 : 2], np.flatnonzero(classes == OTHER)
    begins: int = sorted([0, 0, *words[-2:].tolist(), *marks[-2:].tolist()])[-2]
    last_mark: list[int] = marks[-1:].tolist()
    return min(*last_mark, begins, max(0, len(classes) - MAX_LENGTH))

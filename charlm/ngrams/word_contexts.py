"""The contexts of words: the letters of this word so far, the words before, and the length of the line, as numbers.

After each character, b are the letters read since the word began, v is the word, or the single mark, before it, u the
one before that, and l counts the characters of the line. Where a letter follows,

    b <- (b FACTOR + letter + 1) mod MODULUS

and the contexts are b, b xor h(v), and b xor h(v xor h(u)), where h(x) = (x SPREAD mod 2^64) / 2^20: each a number
below 2^44. That two of a million contexts share one is unlikely, and does little harm. With one more FACTOR in the
place of h, u = "a" and v = "b" would be as v = "ab" alone.

Reference: h, multiplicative hashing, Knuth (1973), The Art of Computer Programming 3, section 6.4; SPREAD, of MMIX.

Shapes: B batch_size, T characters, N characters of text, V vocab_size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OTHER, LETTER, BLANK, BREAK = range(4)  # kinds of symbols, see `Vocab.char_classes`
N_WORD_LEVELS = 4  # what followed b, v b, u v b, and, of white space, l
N_CONTEXTS = 2**44
MODULUS, FACTOR = 2**44 - 17, 262_139  # small enough that no product needs more than 63 bits
SPREAD = 6_364_136_223_846_793_005
MAX_LENGTH = 255  # of a line: all longer ones are alike


def word_contexts(chars: Tensor, char_classes: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the contexts of words after each character.

    Args:
        chars: character indices, (B, T).
        char_classes: of the symbols, uint8, (V,).
        state: what was returned before; None starts afresh.

    Returns:
        contexts: of b, of v b, of u v b, and l, long, (B, T, 4).
        state: b, v, u and l, long, (B, 4).
    """
    ids = chars.long().cpu().numpy()
    kind = char_classes.cpu().numpy()[ids]
    begun, before, further, length = np.zeros((4, len(ids)), np.int64) if state is None else state.cpu().numpy().T
    begins = _begun_words(ids, kind == LETTER, begun)
    # What ends at each character: the word before it, and then, if it is one, the mark. At first u and v have ended.
    ended = np.zeros((len(ids), 1 + ids.shape[1], 2), np.int64)
    ended[:, 0] = np.stack([further, before], axis=1)
    ended[:, 1:, 0] = np.where(kind == LETTER, 0, np.column_stack([begun, begins[:, :-1]]))
    ended[:, 1:, 1] = np.where(kind == OTHER, ids + 1, 0)
    ends = ended != 0
    ends[:, 0] = True
    last, words = ends.cumsum().reshape(ends.shape)[:, 1:, 1] - 1, ended[ends]
    befores, furthers = words[last], words[last - 1]
    place = np.arange(ids.shape[1])
    last_break = np.maximum.accumulate(np.where(kind == BREAK, place, -1 - length[:, None]), axis=1)
    lengths = np.minimum(place - last_break, MAX_LENGTH)
    both, three = begins ^ spread(befores), begins ^ spread(befores ^ spread(furthers))
    contexts = np.stack([begins, both, three, lengths], axis=2)
    after = np.stack([part[:, -1] for part in (begins, befores, furthers, lengths)], axis=1)
    return torch.from_numpy(contexts).to(chars.device), torch.from_numpy(after).to(chars.device)


def spread(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return h of each number, below 2^44: numbers that are near to one another no longer are."""
    return words * SPREAD >> 20 & N_CONTEXTS - 1


def _begun_words(ids: NDArray[np.int64], is_letter: NDArray[np.bool_], begun: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return b after each character, (B, T), from b before the first, (B,): in all words the first letters first."""
    found = np.where(is_letter, ids + 1, 0)
    found[:, 0] = np.where(is_letter[:, 0], (begun * FACTOR + found[:, 0]) % MODULUS, 0)
    goes_on = np.zeros_like(is_letter)
    goes_on[:, 1:] = is_letter[:, 1:] & is_letter[:, :-1]
    flat, follows = found.ravel(), np.append(goes_on, False)
    place = np.flatnonzero(is_letter & ~goes_on) + 1
    while len(place := place[follows[place]]):
        flat[place] = (flat[place - 1] * FACTOR + flat[place]) % MODULUS
        place += 1
    return found


def start_of_contexts(char_classes: Tensor) -> int:
    """Return a place from which on a text has to be read for its last symbol's contexts to be right.

    There u begins: of the words that have ended and the marks, the last but one. Lines are not counted further back.

    Args:
        char_classes: of the text's symbols, uint8, (N,).
    """
    letter = (char_classes == LETTER).int()
    turns = letter.diff(prepend=letter.new_zeros(1)).nonzero().flatten()  # where a word begins, ends, begins, ends
    words, marks = turns[: len(turns) // 2 * 2 : 2], (char_classes == OTHER).nonzero().flatten()
    begins: int = sorted([0, 0, *words[-2:].tolist(), *marks[-2:].tolist()])[-2]
    return min(begins, max(0, len(char_classes) - MAX_LENGTH))

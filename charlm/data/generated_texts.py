"""Texts that need no file: spelled-out numbers, and the prose of Python's `help()`."""

from __future__ import annotations

from charlm.errors import DataError


def _below_thousand(n: int) -> str:
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen"
    ).split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()
    words = [ones[n // 100], "hundred"] if n >= 100 else []
    rest = n % 100
    if rest >= 20:
        words.append(tens[rest // 10 - 2] + ("-" + ones[rest % 10] if rest % 10 else ""))
    elif rest or not words:
        words.append(ones[rest])
    return " ".join(words)


def spell(n: int) -> str:
    """Spell a number below 10^15 in English: 1042 is "one thousand forty-two"."""
    words, rest = [], n
    for scale, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand")):
        if rest >= scale:
            words += [_below_thousand(rest // scale), name]
            rest %= scale
    if rest or not words:
        words.append(_below_thousand(rest))
    return " ".join(words)


def human_numbers(length: str = "") -> str:
    """Return the numbers from one to `length` (default 9999), spelled out, one per line.

    Raises:
        DataError: `length` is not a number from 1 to 10^7.
    """
    if length and not (length.isdecimal() and 1 <= int(length) <= 10**7):
        raise DataError(f"human-numbers:{length}: the part after the colon must be a number from 1 to 10000000")
    return "".join(spell(n) + "\n" for n in range(1, int(length or 9999) + 1))


def python_docs() -> str:
    """Return the English prose of Python's `help()`, as shipped with the running Python."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"

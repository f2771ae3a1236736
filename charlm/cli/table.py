"""Tables as text."""

from __future__ import annotations


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table as text, with numbers right-aligned."""
    lines = [[""] * len(head) for _ in range(len(rows) + 1)]
    for i, (title, *cells) in enumerate(zip(head, *rows, strict=True)):
        width = max(map(len, (title, *cells)))
        is_number = all(cell[:1] in "+-.0123456789" for cell in cells)
        for line, cell in zip(lines, (title, *cells), strict=True):
            line[i] = cell.rjust(width) if is_number else cell.ljust(width)
    joined = ["  ".join(line).rstrip() for line in lines]
    return "\n".join([joined[0], "-" * max(map(len, joined)), *joined[1:]])

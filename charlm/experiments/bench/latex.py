"""Tables of a benchmark in LaTeX, for the packages booktabs and graphicx."""

from __future__ import annotations

from charlm.experiments.bench import tables
from charlm.experiments.bench.results import Results

SPECIAL = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}


def escape(text: str) -> str:
    """Return a text in LaTeX: special characters escaped; those beyond ASCII that fonts may lack as a question mark."""
    return "".join(SPECIAL.get(char, char if char.isascii() else "?") for char in text)


def latex(results: Results) -> str:
    """Return both tables as `table` environments."""
    blocks = [
        "% \\usepackage{booktabs,graphicx}",
        _table(tables.caption(results), "bench", *tables.entry_table(results)),
    ]
    if results.pairs:
        blocks.append(_table(tables.pair_caption(results), "bench-pairs", *tables.pair_table(results)))
    return "\n".join(blocks)


def _table(caption: str, label: str, head: list[str], cells: tables.Cells) -> str:
    """Return a table that is as wide as the text at most; columns of numbers are right-aligned."""
    columns = zip(*cells, strict=True)
    kinds = "".join("r" if all(cell[:1] in "+-.0123456789" for cell in column) else "l" for column in columns)
    lines = [" & ".join(map(escape, line)) + r" \\" for line in (head, *cells)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{kinds}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )

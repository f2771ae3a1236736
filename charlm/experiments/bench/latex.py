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
    """Return all tables as `table` environments."""
    return "\n".join(["% \\usepackage{booktabs,graphicx}", *map(_table, tables.tables_of(results))])


def _table(table: tables.Table) -> str:
    """Return a table that is as wide as the text at most; columns of numbers are right-aligned."""
    columns = zip(*table.cells, strict=True)
    kinds = "".join("r" if all(cell[:1] in "+-.0123456789" for cell in column) else "l" for column in columns)
    lines = [" & ".join(map(escape, line)) + r" \\" for line in (table.head, *table.cells)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(table.caption)}}}",
            rf"\label{{tab:{table.label}}}",
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

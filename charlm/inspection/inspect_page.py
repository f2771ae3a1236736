"""The report of a model as an HTML page."""

from __future__ import annotations

from typing import Any

from charlm.inspection.html import document

SCRIPTS = ("textview.js", "plot.js", "embedding.js", "inspect.js")


def inspect_page(title: str, summary: str, sections: dict[str, dict[str, Any]]) -> str:
    """Return the page.

    Args:
        title: name of the model.
        summary: architecture, size and text in one line.
        sections: see `report.report`.

    Returns:
        HTML.
    """
    return document(title, "inspect.html", SCRIPTS, {"title": title, "summary": summary, "sections": sections})

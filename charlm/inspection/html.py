"""HTML pages in one file: style, scripts and data inside, nothing loaded from outside.

A content security policy lets only this style and these scripts run, by their SHA-256, and forbids every connection.
Data is JSON in a script element that is not run; the scripts put it into text nodes, never into markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

PARTS = files("charlm.inspection") / "page"


def _read(name: str) -> str:
    return (PARTS / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def document(title: str, body: str, scripts: Sequence[str], data: Any) -> str:
    """Return a page.

    Args:
        title: of the page.
        body: file in `page/` with the page's elements.
        scripts: files in `page/`, in the order in which they run.
        data: values for JSON, which the scripts find in the element "data".

    Returns:
        HTML.
    """
    style, script = _read("style.css"), "\n".join(map(_read, scripts))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    values = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{_read(body)}\n"
        f'<script type="application/json" id="data">{values}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )

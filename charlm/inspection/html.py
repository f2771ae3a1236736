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

from charlm.messages import printable

PARTS = files("charlm.inspection") / "page"


def _read(name: str) -> str:
    return (PARTS / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def document(title: str, body: str, scripts: Sequence[str], data: Any) -> str:
    """Return a page with its policy inside.

    Args:
        title: of the page.
        body: file in `page/` with the page's elements.
        scripts: files in `page/`, in the order in which they run.
        data: values for JSON, which the scripts find in the element "data".

    Returns:
        HTML.
    """
    return _document(
        title, body, scripts, data, f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'
    )


def served_document(title: str, body: str, scripts: Sequence[str], data: Any) -> tuple[str, str]:
    """Return a page and its policy, which a server sends as a header; the page may connect to that server alone.

    Args:
        title: of the page.
        body: see `document`.
        scripts: see `document`.
        data: see `document`.
    """
    policy = f"{_policy(scripts)}; connect-src 'self'; frame-ancestors 'none'"
    return _document(title, body, scripts, data, ""), policy


def _script(scripts: Sequence[str]) -> str:
    return "\n".join(map(_read, scripts))


def _policy(scripts: Sequence[str]) -> str:
    return (
        f"default-src 'none'; style-src {_hash(_read('style.css'))}; script-src {_hash(_script(scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )


def _document(title: str, body: str, scripts: Sequence[str], data: Any, policy: str) -> str:
    values = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{policy}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(printable(title))}</title>\n<style>{_read('style.css')}</style>\n</head>\n<body>\n{_read(body)}\n"
        f'<script type="application/json" id="data">{values}</script>\n<script>{_script(scripts)}</script>\n'
        "</body>\n</html>\n"
    )

"""The log of a run, metrics.jsonl: one JSON object a line, measurements, and at the end the result.

A full disk may cut a line, and anything may damage one. Values that cannot be measurements are left out.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
MAX_NUMBER = 1 << 63
_NUMBER_KEY = re.compile(r"^n_|^(epoch|step|seconds|time)$|_(nats|accuracy|bytes|chars|per_second|per_byte)$")


def parse_line(line: bytes) -> dict[str, Any]:
    """Return a line of metrics.jsonl, without values that cannot be measurements; empty if it is no JSON object."""
    return _parse(line)[0]


def _parse(line: bytes) -> tuple[dict[str, Any], bool]:
    """Return what is readable of a line, and whether that is all of it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # cut by a full disk, other bytes, numbers or nesting without end
        return {}, False
    return _possible(row)


def _possible(row: Any) -> tuple[dict[str, Any], bool]:
    if not isinstance(row, dict):
        return {}, False
    found, is_whole = {key: value for key, value in row.items() if _is_possible(key, value)}, True
    if "result" in row:
        found["result"], is_whole = _possible(row["result"])
    return found, is_whole and len(found) == len(row)


def _is_possible(key: str, value: Any) -> bool:
    if not _NUMBER_KEY.search(key):
        return True
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (abs(value) < MAX_NUMBER or (key.endswith("_nats") and isinstance(value, float)))


def read_log(run: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the readable lines of a run's metrics.jsonl, and the number of lines that are damaged or cannot be read.

    A line that is being written, the last one without a line break, is neither.
    """
    try:
        lines = (run / METRICS).read_bytes().split(b"\n")
    except OSError:
        return [], 1
    parsed = [_parse(line) for line in lines[:-1] if line]
    return [row for row, _ in parsed if row], sum(not is_whole for _, is_whole in parsed)


def log_of(run: Path) -> list[dict[str, Any]]:
    """Return the readable lines of a run's metrics.jsonl."""
    return read_log(run)[0]


def append_result(run: Path, result: Mapping[str, Any]) -> None:
    """Append the result of a finished training to metrics.jsonl.

    Raises:
        OSError: the file cannot be written.
    """
    append_line(run / METRICS, {"time": time.time(), "result": result})


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a JSON object to a file, in a line of its own also after one that a full disk or a kill has cut.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("ab+") as file:
        is_cut = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write(b"\n" * is_cut + json.dumps(row).encode() + b"\n")


def result_of(run: Path) -> dict[str, Any]:
    """Return the result of a run from its metrics.jsonl; of an unfinished run, its latest measurements."""
    result: dict[str, Any] = {}
    for row in log_of(run):
        result |= row.get("result", {key: row[key] for key in ("n_chars", "seconds", "valid_nats") if key in row})
    return result

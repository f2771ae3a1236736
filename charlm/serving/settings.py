"""Settings of a server: API keys, host names and limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from charlm.errors import InputNotFoundError, UsageError

MAX_KEY_FILE = 1 << 16  # bytes


@dataclass(frozen=True)
class Settings:
    """Settings of a server: API keys, host names and limits.

    Attributes:
        api_keys: a client needs one of them; if empty, it needs no key.
        hosts: accepted host names, in lower case, in addition to localhost and IP addresses.
        max_body: bytes of a request.
        max_chars: characters of a prompt, and of a text to score.
        max_tokens: characters to sample for one text.
        max_texts: texts of one request.
        max_lanes: texts of one model in progress.
        max_chars_in_progress: their characters, including prompts and those that `logprobs` reports.
        max_requests: requests in progress.
        header_seconds: time to receive the first line and the headers of a request.
        body_seconds: time to receive its body.
        seconds: time to respond to it.
        reading_seconds: time in which a client must read `server.MIN_READ` bytes of the response.
    """

    api_keys: tuple[bytes, ...] = ()
    hosts: frozenset[str] = frozenset()
    max_body: int = 1 << 20
    max_chars: int = 100_000
    max_tokens: int = 20_000
    max_texts: int = 64
    max_lanes: int = 128
    max_chars_in_progress: int = 1_000_000
    max_requests: int = 256
    header_seconds: float = 10
    body_seconds: float = 10
    seconds: float = 120
    reading_seconds: float = 30


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Read a file with one API key a line.

    Raises:
        InputNotFoundError: the file cannot be read.
        UsageError: the file has no key, an invalid one, or too many bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    keys = tuple(line.strip() for line in data.splitlines() if line.strip())
    if not keys or len(data) > MAX_KEY_FILE:
        raise UsageError(f"{path}: must hold an API key in each line, at most {MAX_KEY_FILE:,} bytes in all")
    if not all(all(0x21 <= byte <= 0x7E for byte in key) for key in keys):
        raise UsageError(f"{path}: a key must consist of printable ASCII characters without spaces")
    return keys

"""Download over https, of at most so many bytes; redirects lead to https only."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from charlm.errors import DataError
from charlm.messages import no_bars

TIMEOUT_SECONDS = 20
BLOCK_BYTES = 1 << 16  # downloaded at a time
FAILURES = (OSError, ValueError, http.client.HTTPException)  # of a download


def _check_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not https")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https only, at every hop."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            _check_https(newurl)
        except ValueError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, name: str, max_bytes: int) -> Iterator[bytes]:
    """Yield the blocks of a download.

    Args:
        url: begins with https://.
        name: shown with the progress bar.
        max_bytes: limit of the size.

    Raises:
        OSError, ValueError, HTTPException: the download failed or was cut off, see `FAILURES`.
        DataError: it is longer.
    """
    _check_https(url)
    with urllib.request.build_opener(_HttpsOnly).open(url, timeout=TIMEOUT_SECONDS) as response:
        n_bytes = 0
        with tqdm(total=response.length, unit="B", unit_scale=True, desc=name, disable=no_bars()) as bar:
            while block := response.read(BLOCK_BYTES):
                n_bytes += len(block)
                bar.update(len(block))
                if n_bytes > max_bytes:
                    raise DataError(f"{url}: longer than the expected {max_bytes} bytes")
                yield block
        if response.length:  # bytes that the server has announced; `read` returns what came
            raise ValueError(f"{response.length} bytes are missing at the end")


def reason(error: BaseException) -> object:
    """Return why a download failed, for a message."""
    return getattr(error, "reason", error) or type(error).__name__

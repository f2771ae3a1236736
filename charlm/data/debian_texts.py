"""Texts of Debian packages, read from the files that the installed package lists."""

from __future__ import annotations

import gzip
import re
import subprocess
import zlib
from pathlib import Path

from charlm.errors import DataError, InputNotFoundError

ROOT = Path("/")
ALL_VERSES = "gen1:1-rev22:21"
WIDTH = 100_000  # characters of a line, more than the longest verse has
_VERSE = re.compile(r" +\d+ (.*)")


def is_installed(package: str, root: Path = ROOT) -> bool:
    """Return whether a package is installed."""
    return _listing(package, root).is_file()


def _listing(package: str, root: Path) -> Path:
    return root / "var/lib/dpkg/info" / f"{package}.list"


def _files(package: str, folder: str, root: Path, pattern: str = "*") -> list[Path]:
    """Return the files of a package below a folder whose names match a pattern, in order of name.

    Raises:
        InputNotFoundError: the package is not installed.
        DataError: it has no such file there.
    """
    try:
        listed = _listing(package, root).read_text("utf-8").splitlines()
    except OSError:
        raise InputNotFoundError(
            f"{package}: the Debian package is not installed; install it: apt-get install {package}"
        ) from None
    paths = [root / line.lstrip("/") for line in listed if line.startswith(f"/{folder}/")]
    if files := sorted(path for path in paths if path.match(pattern) and path.is_file() and not path.is_symlink()):
        return files
    raise DataError(f"{package}: the Debian package has no /{folder}/{pattern}; install another version of it")


def _read(path: Path) -> bytes:
    """Return a file of a package, unpacked.

    Raises:
        InputNotFoundError: it cannot be read.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix in (".gz", ".dz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error}") from None


def bible_kjv(root: Path = ROOT) -> str:
    """Return the King James Bible as the program of the package prints it, one verse a line, without numbers.

    Raises:
        InputNotFoundError: the package is not installed, or its program fails.
    """
    program = _files("bible-kjv", "usr/bin", root, "bible")[0]
    try:
        line = [str(program), f"-l{WIDTH}", ALL_VERSES]
        printed = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputNotFoundError(f"bible-kjv: {program} fails: {error}") from None
    verses = (_VERSE.fullmatch(line) for line in printed.splitlines())
    return "".join(f"{verse[1]}\n" for verse in verses if verse)


def dict_gcide(root: Path = ROOT) -> str:
    """Return the dictionary; a byte that is not UTF-8 becomes U+FFFD."""
    return _read(_files("dict-gcide", "usr/share/dictd", root, "*.dz")[0]).decode("utf-8", "replace")


def fortunes(root: Path = ROOT) -> str:
    """Return the cookies of all files in order of name; a line with % ends each cookie."""
    files = (path for path in _files("fortunes", "usr/share/games/fortunes", root) if not path.suffix)
    return "".join(_read(path).decode("utf-8", "replace") for path in files)


def miscfiles(root: Path = ROOT) -> str:
    """Return the list of words of Webster's Second International Dictionary, one a line."""
    return _read(_files("miscfiles", "usr/share/dict", root, "web2")[0]).decode("utf-8", "replace")

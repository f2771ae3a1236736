"""Files that are there whole or not at all, and folders that one process writes at a time."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.errors import OutputError

TEMPORARY = ".tmp"  # the names of half-written files end so, and begin with a dot
LOCK, OWNER = ".lock", ".owner.json"


def atomic_write(path: Path, data: bytes | bytearray) -> None:
    """Write beside the final name, flush, rename, and flush the folder: whole or absent, also after a power cut.

    Raises:
        OutputError: it cannot be written; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(temporary, path)
        except BaseException:  # Ctrl-C, too
            with suppress(OSError):
                os.unlink(temporary)
            raise
        fsync_dir(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}{_room(path, len(data), error)}") from error


def fsync_dir(folder: Path) -> None:
    """Have the names in a folder written to the disk.

    Raises:
        OSError: that failed.
    """
    if os.name == "nt":  # has no such thing
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temp_files(folder: Path) -> None:
    """Remove what was half-written in a folder when a process was killed; nobody else may be writing there."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Be the only one to write in a folder; the system ends this with the process, however that ends.

    Raises:
        OutputError: somebody else is, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{folder}: {_owner(folder)} is training there; wait for its end, or stop it") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        remove_temp_files(folder)
        me = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OutputError):  # only to tell others
            atomic_write(folder / OWNER, json.dumps(me).encode())
        yield
    finally:
        lock.release()


def _owner(folder: Path) -> str:
    """Return who writes in a folder, for a message."""
    try:
        return "process {process} on {host}, since {since},".format(**json.loads((folder / OWNER).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _room(path: Path, n_bytes: int, error: OSError) -> str:
    """Return what a message about a full disk says of the room there is."""
    if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return ""
    with suppress(OSError):
        free = shutil.disk_usage(path.parent).free
        return f"; it takes {n_bytes / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free"
    return ""

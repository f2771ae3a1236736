"""Files: atomic writes, and exclusive locks on folders."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.errors import OutputError

TEMP_SUFFIX = ".tmp"  # of partial files; their names begin with a dot
LOCK, OWNER = ".lock", ".owner.json"


def check_replaceable(path: Path) -> None:
    """Check that a path is a regular file or does not exist, so that writing replaces no device, FIFO, socket or link.

    Raises:
        OutputError: it is anything else.
    """
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):  # it does not exist, or its folder cannot be read: writing reports that
        return
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path}: cannot be written: it is not a regular file; choose another name")


def atomic_write(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file so that it is complete or unchanged; see `atomic_open`.

    Raises:
        OutputError: the file cannot be written, or is not a regular one; the previous file, if any, is unchanged.
    """
    with atomic_open(path, len(data)) as write:
        write(data)


@contextmanager
def atomic_open(path: Path, n_bytes: int | None = None) -> Iterator[Callable[[bytes | bytearray | memoryview], None]]:
    """Open a file for writing so that it is complete or unchanged, also after a power failure.

    The data goes to a temporary file in the same folder, which is flushed and renamed at the end of the context; then
    the folder is flushed. After an exception the previous file, if any, is unchanged. The permissions of the file are
    those of any new one (`umask`).

    Args:
        path: file to write or to replace.
        n_bytes: its length, for the message if the disk is full; None if unknown.

    Yields:
        a function that writes the next bytes.

    Raises:
        OutputError: the file cannot be written, or is not a regular one.
    """
    check_replaceable(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")
    try:
        with _reported(path, n_bytes):
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)

        def write(data: bytes | bytearray | memoryview) -> None:
            rest = memoryview(data)
            with _reported(path, n_bytes):
                while rest:
                    rest = rest[os.write(file, rest) :]

        try:
            yield write
            with _reported(path, n_bytes):
                os.fsync(file)
        finally:
            with _reported(path, n_bytes):
                os.close(file)
        with _reported(path, n_bytes):
            os.replace(temporary, path)
    except BaseException:  # including Ctrl-C
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with _reported(path, n_bytes):
        fsync_dir(path.parent)


@contextmanager
def _reported(path: Path, n_bytes: int | None) -> Iterator[None]:
    """Report a failed operation on a file that is being written.

    Raises:
        OutputError: the operation failed.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}{_free_space(path, n_bytes, error)}") from error


def fsync_dir(folder: Path) -> None:
    """Flush a folder, so that renamed files survive a power failure.

    Raises:
        OSError: flushing failed.
    """
    if os.name == "nt":  # Windows cannot flush folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temp_files(folder: Path) -> None:
    """Remove partial files that a killed process left in a folder; no other process may be writing there."""
    for path in folder.glob(f".*{TEMP_SUFFIX}"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a run folder; the OS releases it when the process dies.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{folder}: {_owner(folder)} is training there; wait until it ends, or stop it") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        remove_temp_files(folder)
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OutputError):  # only for error messages
            atomic_write(folder / OWNER, json.dumps(owner).encode())
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Return whether another process holds the lock of a folder; False if that cannot be found out."""
    if not (folder / LOCK).is_file():
        return False
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _owner(folder: Path) -> str:
    """Return a description of the process that holds the lock of a folder."""
    try:
        return "process {process} on {host}, since {since},".format(**json.loads((folder / OWNER).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _free_space(path: Path, n_bytes: int | None, error: OSError) -> str:
    """Return the needed and the free space if the disk is full, for a message."""
    if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return ""
    with suppress(OSError):
        free = shutil.disk_usage(path.parent).free
        needed = "" if n_bytes is None else f"{n_bytes / 1e6:.1f} MB are needed, "
        return f"; {needed}{free / 1e6:.1f} MB are free"
    return ""

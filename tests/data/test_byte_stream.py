"""Files and texts as one stream that can be read again and again, and whose change is noticed."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.data import named_texts
from charlm.data.byte_stream import ByteStream
from charlm.errors import DataError, InputNotFoundError


@given(st.lists(st.binary(max_size=9), max_size=4), st.integers(1, 10))
def test_texts_are_joined_by_line_breaks_and_no_piece_is_too_long(texts, n_piece):
    pieces = ByteStream(texts, n_piece)
    assert b"".join(pieces) == b"".join(pieces) == b"\n".join(texts)
    assert all(0 < len(piece) <= n_piece for piece in pieces)
    assert pieces.n_bytes == len(b"\n".join(texts))


def test_files_and_texts_mix(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    pieces = ByteStream([b"x", tmp_path / "a"], n_piece=2)
    assert list(pieces) == [b"x", b"\n", b"12", b"34", b"5"]
    assert pieces.n_bytes == 7


def rewrite(path):
    path.write_bytes(b"54321")


def rewrite_and_set_the_time_back(path):
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"54321")
    os.utime(path, ns=times)


def replace_with_the_same_time(path):
    other = path.with_name("b")
    other.write_bytes(b"54321")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, rewrite_and_set_the_time_back, replace_with_the_same_time])
def test_a_changed_file_has_another_stamp_whatever_its_size_and_time_say(tmp_path, change):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(10**18, 10**18))
    pieces = ByteStream([path])
    before = pieces.fingerprint
    assert pieces.fingerprint == before
    threading.Event().wait(0.02)  # the clock of the file system ticks
    change(path)
    assert pieces.fingerprint != before


def test_the_stamp_of_a_text_is_of_its_bytes():
    assert ByteStream([b"a"]).fingerprint == ByteStream([b"a"]).fingerprint != ByteStream([b"b"]).fingerprint


def test_a_file_that_has_gone_is_named(tmp_path):
    for look in (list, lambda pieces: pieces.n_bytes, lambda pieces: pieces.fingerprint):
        with pytest.raises(InputNotFoundError, match="gone: cannot be read: No such file"):
            look(ByteStream([tmp_path / "gone"]))


def written(descriptor, data):
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def test_the_output_of_another_command_is_read_to_its_end():
    reader, writer = os.pipe()  # what the shell's <(command) gives
    thread = threading.Thread(target=written, args=(writer, b"one\ntwo\n" * 20_000))
    thread.start()
    assert named_texts.read(f"/dev/fd/{reader}") == b"one\ntwo\n" * 20_000
    thread.join()
    os.close(reader)


def test_a_named_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"text"))
    thread.start()
    assert named_texts.read(str(tmp_path / "pipe")) == b"text"
    thread.join()


def test_what_has_no_end_is_refused():
    with pytest.raises(
        DataError, match="/dev/zero: cannot be read twice and is longer than 128 MB; put its text into a file"
    ):
        named_texts.read("/dev/zero")


def test_an_empty_device_is_an_empty_text():
    assert named_texts.read("/dev/null") == b""

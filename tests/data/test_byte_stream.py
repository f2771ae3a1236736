"""ByteStream: joining, blocks, fingerprints; pipes and devices."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.data import named_texts
from charlm.data.byte_stream import ByteStream
from charlm.errors import DataError, InputNotFoundError


def read(source):
    """Return the bytes of one source."""
    return b"".join(named_texts.open_texts([source]))


@given(st.lists(st.binary(max_size=9), max_size=4), st.integers(1, 10))
def test_texts_are_joined_by_line_breaks_in_blocks_of_bounded_size(texts, block_bytes):
    stream = ByteStream(texts, block_bytes)
    assert b"".join(stream) == b"".join(stream) == b"\n".join(texts)
    assert all(len(block) <= block_bytes for block in stream)
    assert list(stream).count(b"") == max(0, len(texts) - 1)
    assert stream.n_bytes == len(b"\n".join(texts))


def test_files_and_texts_mix(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    stream = ByteStream([b"x", tmp_path / "a"], block_bytes=2)
    assert list(stream) == [b"x", b"\n", b"", b"12", b"34", b"5"]
    assert stream.n_bytes == 7


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
def test_a_changed_file_has_another_fingerprint_even_with_equal_size_and_time(tmp_path, change):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(10**18, 10**18))
    stream = ByteStream([path])
    before = stream.fingerprint
    assert stream.fingerprint == before
    threading.Event().wait(0.02)  # the clock of the file system ticks
    change(path)
    assert stream.fingerprint != before


def test_the_fingerprint_of_a_byte_string_depends_on_its_content_alone():
    assert ByteStream([b"a"]).fingerprint == ByteStream([b"a"]).fingerprint != ByteStream([b"b"]).fingerprint


def test_a_missing_file_is_named_in_the_error(tmp_path):
    for use in (list, lambda stream: stream.n_bytes, lambda stream: stream.fingerprint):
        with pytest.raises(InputNotFoundError, match="gone: cannot be read: No such file"):
            use(ByteStream([tmp_path / "gone"]))


def written(descriptor, data):
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def test_a_pipe_is_read_to_its_end():
    reader, writer = os.pipe()  # as from the shell's <(command)
    thread = threading.Thread(target=written, args=(writer, b"one\ntwo\n" * 20_000))
    thread.start()
    assert read(f"/dev/fd/{reader}") == b"one\ntwo\n" * 20_000
    thread.join()
    os.close(reader)


def test_a_named_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"text"))
    thread.start()
    assert read(str(tmp_path / "pipe")) == b"text"
    thread.join()


def test_an_endless_source_is_refused():
    with pytest.raises(
        DataError, match="/dev/zero: cannot be read twice and is longer than 128 MB; save its text to a file"
    ):
        read("/dev/zero")


def test_an_empty_device_is_an_empty_text():
    assert read("/dev/null") == b""

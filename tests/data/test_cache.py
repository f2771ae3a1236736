"""Cache: a large text is encoded once; stale, damaged or partial files are not used."""

import os
import threading

import numpy as np
import pytest
import torch

from charlm.data import cache
from charlm.data.byte_stream import ByteStream
from charlm.data.corpus import make_corpus
from charlm.data.vocab import Vocab
from charlm.errors import DataError, OutputError
from charlm.recipe import Recipe
from charlm.training import session

TEXT = b"the cat sat on the mat, and the dog sat on the log. " * 30


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of the encoded texts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "charlm"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    return path


def encode(*paths, **options):
    """Return a corpus that is encoded into a file, whatever its length."""
    return make_corpus(ByteStream(paths, 100), "text", mmap_threshold=0, **options)


def files_of(folder):
    """Return the files in the folder, except the lock files."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def file_of(folder):
    """Return the only file in the folder."""
    [path] = files_of(folder)
    return path


def same(one, other):
    return (
        one.ids.tolist() == other.ids.tolist()
        and one.vocab == other.vocab
        and (one.sha256, one.bounds) == (other.sha256, other.bounds)
    )


def test_a_text_is_encoded_once(folder, text):
    first = encode(text)
    written = file_of(folder).stat()
    second = encode(text)
    assert same(first, second)
    assert os.path.samestat(file_of(folder).stat(), written)
    assert same(first, make_corpus(TEXT, "text"))


def test_several_files_and_texts_are_one_text(folder, text):
    whole = make_corpus(TEXT + b"\n" + TEXT + b"\nend", "text")
    for _ in range(2):
        assert same(make_corpus(ByteStream([text, text, b"end"]), "text", mmap_threshold=0), whole)


@pytest.mark.parametrize("change", [TEXT[::-1], TEXT[:-1], TEXT + b"!", b"\n" * len(TEXT)])
def test_a_changed_text_is_encoded_again_and_replaces_the_old_file(folder, text, change):
    old = encode(text)
    before = old.ids.tolist()
    times = text.stat().st_atime_ns, text.stat().st_mtime_ns
    text.write_bytes(change)
    os.utime(text, ns=times)
    assert same(encode(text), make_corpus(change, "text"))
    assert file_of(folder)
    assert old.ids.tolist() == before  # the old file stays readable


@pytest.mark.parametrize(
    "options",
    [
        {"split": "all"},
        {"min_count": 40},
        {"lower": True},
        {"as_bytes": True},
        {"vocab": Vocab(map(ord, "abc"))},
        {"known": Vocab(map(ord, "zt"))},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_options_encode_the_text_again(folder, text, options):
    for wanted in ({}, options, {}, options):
        assert same(encode(text, **wanted), make_corpus(TEXT, "text", **wanted))


def test_a_given_vocabulary_equal_to_the_stored_one_uses_the_stored_file(folder, text):
    trained = encode(text)
    written = file_of(folder).stat()
    assert same(encode(text, vocab=trained.vocab), trained)
    assert os.path.samestat(file_of(folder).stat(), written)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:-1],
        lambda data: data[1:],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"x",
        lambda data: b"x" * len(data),
        lambda data: data[:-8] + (10**9).to_bytes(8, "little"),
        lambda data: data[:-8] + b"\xff" * 8,
        lambda data: data.replace(b'"codepoints"', b'"codepointy"'),
        lambda data: data.replace(b'"format": 3', b'"format": 0'),
    ],
)
def test_a_damaged_file_is_written_again_with_one_line(folder, text, damage, capsys):
    encode(text)
    path = file_of(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert same(encode(text), make_corpus(TEXT, "text"))
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line and "damaged" in line and line.endswith("encoding the text again")
    assert same(encode(text), make_corpus(TEXT, "text"))
    assert capsys.readouterr().err == ""


def test_no_file_with_a_flipped_bit_is_used(folder, text, capsys):
    encode(text)
    whole = file_of(folder).read_bytes()
    generator = np.random.Generator(np.random.PCG64(0))
    in_ids = generator.integers(len(TEXT), size=40).tolist()
    in_description = generator.integers(len(TEXT), len(whole), size=20).tolist()
    for position in in_ids + in_description:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        file_of(folder).write_bytes(damaged)
        assert same(encode(text), make_corpus(TEXT, "text"))
        assert "damaged" in capsys.readouterr().err
        assert file_of(folder).read_bytes() == whole


def test_a_file_that_cannot_be_read_is_written_again(folder, text, capsys):
    encode(text)
    path = file_of(folder)
    path.unlink()
    path.symlink_to(path.name)
    assert same(encode(text), make_corpus(TEXT, "text"))
    assert "symbolic links; encoding the text again" in capsys.readouterr().err
    assert path.is_file() and not path.is_symlink()


def test_a_partial_file_of_a_killed_process_is_overwritten(folder, text):
    encode(text)
    whole = file_of(folder).read_bytes()
    file_of(folder).rename(file_of(folder).with_suffix(".part"))
    file_of(folder).write_bytes(b"half of another text" * 1000)
    assert same(encode(text), make_corpus(TEXT, "text"))
    assert file_of(folder).read_bytes() == whole


class Disturbed(ByteStream):
    """A stream that calls a function before its fourth block."""

    def __init__(self, parts, disturb):
        super().__init__(parts, 100)
        self.disturb = disturb

    def __iter__(self):
        for i, block in enumerate(super().__iter__()):
            if i == 3:
                self.disturb()
            yield block


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupted_encoding_leaves_no_file(folder, text):
    with pytest.raises(KeyboardInterrupt):
        make_corpus(Disturbed([text], interrupt), "text", mmap_threshold=0)
    assert files_of(folder) == []
    assert same(encode(text), make_corpus(TEXT, "text"))


@pytest.mark.parametrize("mmap_threshold", [0, 10**9], ids=["in a file", "in memory"])
def test_a_text_that_changes_during_reading_is_refused(folder, text, mmap_threshold):
    def grow():
        with text.open("ab") as file:
            file.write(b"!")

    with pytest.raises(DataError, match="text: changed while it was read; try again"):
        make_corpus(Disturbed([text], grow), "text", mmap_threshold=mmap_threshold)
    assert not folder.exists() or files_of(folder) == []


def test_an_invalid_or_short_text_leaves_no_file(folder, text):
    text.write_bytes(TEXT + b"\xff")
    with pytest.raises(DataError, match=f"0xff at offset {len(TEXT)}"):
        encode(text)
    text.write_bytes(b"short")
    for options in ({}, {"vocab": Vocab(map(ord, "abc"))}):
        with pytest.raises(DataError, match="only 5 characters"):
            encode(text, **options)
    assert files_of(folder) == []


def test_an_unwritable_folder_is_named_with_the_remedy(folder, text):
    folder.parent.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="charlm: the encoded text cannot be written: .*XDG_CACHE_HOME"):
        encode(text)


def test_one_process_encodes_a_text_and_the_others_wait(folder, text, capsys):
    source = {"fingerprint": ByteStream([text]).fingerprint, "lower": False, "as_bytes": False}
    has_begun, may_end, n_encoded = threading.Event(), threading.Event(), []

    def encode_slowly(put):
        n_encoded.append(1)
        has_begun.set()
        assert may_end.wait(10)
        put(np.arange(5, dtype=np.uint8))
        return "0" * 64, Vocab(map(ord, "abcd"))

    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.load_or_encode(source, {}, None, encode_slowly)))
        for _ in range(3)
    ]
    threads[0].start()
    assert has_begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    for thread in threads[1:]:
        thread.join(0.1)
    may_end.set()
    for thread in threads:
        thread.join()
    assert [ids.tolist() for _, _, ids in found] == [[0, 1, 2, 3, 4]] * 3
    assert len(n_encoded) == 1
    assert file_of(folder).suffix == ".ids"
    assert "another process is encoding this text; waiting for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "choice", [{}, {"feed": "chunks"}, {"feed": "windows", "split": "random20", "n_context": 8}], ids=str
)
def test_training_on_a_mapped_text_equals_training_in_memory(folder, text, choice):
    common = {"model": "rnn", "epochs": 1, "batch_size": 32, "bptt": 8, "device": "cpu"}
    recipe = Recipe().replace(**common | choice, options={"n_hidden": 8, "n_embed": 4})
    models = []
    for mmap_threshold in (0, 10**9):
        corpus = make_corpus(ByteStream([text]), "text", choice.get("split", "standard"), mmap_threshold=mmap_threshold)
        if mmap_threshold == 0:
            text.write_bytes(b"another text")  # the encoded file is a copy
            models.append(session.train(recipe, corpus))
            text.write_bytes(TEXT)
        else:
            models.append(session.train(recipe, corpus))
    torch.testing.assert_close(models[0].model.state_dict(), models[1].model.state_dict(), rtol=0, atol=0)
    results = [dict(model.metadata.result) for model in models]
    for result in results:
        del result["seconds"], result["peak_bytes"]
    assert results[0] == results[1]

"""Texts that a user adds: what is copied, pinned and refused."""

import gzip
import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from charlm.data.named_texts import NamedText, all_texts, open_texts
from charlm.data.user_texts import add_text, user_folder, user_texts
from charlm.errors import DataError, InputNotFoundError, OutputError, UsageError

BOOK = "Ein Buch, nicht lang: \u00fcber \u00c4pfel\n" * 9
OTHER = "another book\n" * 9


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder with two texts, which is also the user's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CHARLM_CORPORA", raising=False)
    Path("book.txt").write_text(BOOK, encoding="utf-8")
    Path("other.txt").write_text(OTHER, encoding="utf-8")


def add(name, *sources, **options):
    return add_text(name, sources, user_folder(), **options)


def read(name):
    return b"".join(open_texts([name])).decode()


def test_a_text_is_copied_with_size_sha256_source_and_licence():
    text = add("my-book", "book.txt", source="my shelf", licence="CC0", split="90/5/5")
    Path("book.txt").unlink()
    assert read("my-book") == BOOK
    assert all_texts()["my-book"] == text
    assert (text.source, text.licence, text.split) == ("my shelf", "CC0", "90/5/5")
    assert (text.n_bytes, text.sha256) == (len(BOOK.encode()), hashlib.sha256(BOOK.encode()).hexdigest())


def test_without_options_source_is_the_file_and_the_split_standard():
    text = add("my-book", "book.txt")
    assert (text.source, text.licence, text.split) == ("book.txt", "not known", "standard")


def test_a_file_whose_name_is_not_utf8_can_be_added():
    name = os.fsdecode(b"b\xfcch.txt")
    Path("book.txt").rename(name)
    assert add("my-book", name).source == "b?ch.txt" and read("my-book") == BOOK


def test_the_bytes_of_first_use_stay_those_of_the_name():
    add("my-book", "book.txt")
    before = {path: path.read_bytes() for path in user_folder().iterdir()}
    with pytest.raises(
        DataError, match=r"other.txt: SHA-256 [0-9a-f]{12}\.\.\. is not that of my-book.*or delete .*my-book.json"
    ):
        add("my-book", "other.txt")
    assert {path: path.read_bytes() for path in user_folder().iterdir()} == before
    assert add("my-book", "book.txt", licence="CC0").licence == "CC0"


def test_a_changed_or_deleted_file_is_noticed():
    add("my-book", "book.txt")
    (user_folder() / "my-book.txt").write_text(OTHER)
    with pytest.raises(DataError, match=r"my-book\.txt: not the expected text: SHA-256"):
        read("my-book")
    (user_folder() / "my-book.txt").unlink()
    with pytest.raises(InputNotFoundError, match="add it again with `charlm corpora add`"):
        read("my-book")
    add("my-book", "book.txt")
    assert read("my-book") == BOOK


def test_three_files_are_one_text_whose_split_is_their_sizes_in_characters():
    Path("marked.txt").write_bytes(b"\xef\xbb\xbf" + OTHER.encode())
    text = add("parts", "book.txt", "marked.txt", "other.txt")
    assert text.split == f"{len(BOOK)}/{len(OTHER)}/{len(OTHER)}"
    assert read("parts") == BOOK + OTHER + OTHER


def test_the_characters_of_penn_treebank_are_joined_and_its_underscores_are_spaces():
    for part in ("train", "valid", "test"):
        Path(f"ptb.char.{part}.txt").write_text(f"{' '.join(part)} _ o n e \n < u n k > _ N \n")
    text = add("penn-treebank", *(f"ptb.char.{part}.txt" for part in ("train", "valid", "test")))
    assert read("penn-treebank") == "train one\n<unk> N\nvalid one\n<unk> N\ntest one\n<unk> N\n"
    assert (text.split, text.licence) == ("18/18/17", "LDC (Treebank-3, LDC99T42)")


def test_a_text_of_the_table_keeps_its_description_and_split_and_is_pinned():
    with pytest.raises(InputNotFoundError, match="charlm corpora add text8 https://mattmahoney.net/dc/text8.zip"):
        read("text8")
    text = add("text8", "other.txt")
    assert (text.split, text.source) == ("90/5/5", "https://mattmahoney.net/dc/text8.zip")
    assert read("text8") == OTHER


def test_a_text_of_the_table_with_a_sha256_is_added_only_with_it():
    data = BOOK.encode()
    known = NamedText("a book", "https://localhost:1/b", "CC0", "it.txt", len(data), hashlib.sha256(data).hexdigest())
    with pytest.raises(DataError, match="is not that of it"):
        add("it", "other.txt", texts={"it": known})
    assert list(user_folder().iterdir()) == []
    assert add("it", "book.txt", texts={"it": known}).sha256 == known.sha256
    assert b"".join(open_texts(["it"], {"it": known})) == data


@pytest.mark.parametrize("packed", ["gz", "zip"])
def test_a_packed_file_is_unpacked(packed):
    if packed == "gz":
        Path("book.gz").write_bytes(gzip.compress(BOOK.encode()))
    else:
        with zipfile.ZipFile("book.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("folder")
            archive.writestr("folder/../../book.txt", BOOK)
    add("my-book", f"book.{packed}")
    assert read("my-book") == BOOK
    assert sorted(path.name for path in user_folder().iterdir()) == ["my-book.json", "my-book.txt"]


def test_an_archive_of_several_files_is_refused():
    with zipfile.ZipFile("both.zip", "w") as archive:
        archive.write("book.txt")
        archive.write("other.txt")
    with pytest.raises(DataError, match="both.zip: has 2 files; unpack it, and add one of them"):
        add("my-book", "both.zip")


@pytest.mark.parametrize("n_bytes", [5, 20, 40, -20, -5])
@pytest.mark.parametrize("packed", ["gz", "zip"])
def test_a_cut_archive_is_refused(packed, n_bytes):
    Path("book.gz").write_bytes(gzip.compress(BOOK.encode()))
    with zipfile.ZipFile("book.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write("book.txt")
    Path("cut").write_bytes(Path(f"book.{packed}").read_bytes()[:n_bytes])
    with pytest.raises(DataError, match="cut: cannot be unpacked"):
        add("my-book", "cut")
    assert list(user_folder().iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_above_the_limit_is_refused(packed):
    data = BOOK.encode()
    Path("book").write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError, match="longer than the limit"):
        add("my-book", "book", max_bytes=len(data) - 1)
    assert list(user_folder().iterdir()) == []
    add("my-book", "book", max_bytes=len(data))


def test_an_empty_text_is_refused():
    Path("empty.txt").touch()
    with pytest.raises(DataError, match=r"empty\.txt: is empty"):
        add("my-book", "empty.txt")


@pytest.mark.parametrize("name", ["", "Book", ".book", "-book", "a/b", "..", "a b", "b\n", "a:b", "\u00e4", "x" * 65])
def test_a_name_that_is_not_that_of_a_plain_file_is_refused(name):
    with pytest.raises(UsageError, match="the name of a text has at most 64 lower-case letters"):
        add(name, "book.txt")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((), "0 given"),
        (("book.txt",) * 2, "one file, or three files: training, validation and test part"),
        (("http://localhost/book.txt",), "only https URLs are downloaded"),
        (("file:///etc/hostname",), "only https URLs are downloaded"),
        (("ftp://localhost/book.txt",), "only https URLs are downloaded"),
    ],
)
def test_other_sources_are_refused(sources, message):
    with pytest.raises(UsageError, match=message):
        add("my-book", *sources)
    assert not user_folder().exists()


@pytest.mark.parametrize("name", ["markov", "fortunes", "python-docs"])
def test_the_name_of_a_text_without_a_file_is_refused(name):
    with pytest.raises(UsageError, match=f"{name} is a text without a file"):
        add(name, "book.txt")


def test_a_missing_file_is_named():
    for source in ("no-such.txt", "."):
        with pytest.raises(InputNotFoundError, match="cannot be read"):
            add("my-book", source)


def test_an_invalid_split_is_refused_before_anything_is_copied():
    with pytest.raises(UsageError, match="split must be one of"):
        add("my-book", "book.txt", split="half")
    assert not user_folder().exists()


def test_a_folder_that_cannot_be_created_is_an_output_error():
    Path("home").write_text("a file")
    with pytest.raises(OutputError, match="cannot be created"):
        add("my-book", "book.txt")


ENDLESS = b'{"source": "", "licence": "", "split": "standard", "sha256": "", "n_bytes": 1e999}'


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b"{}", b"\xff", b'{"source": "x"}', b"null", ENDLESS, b"[" * 65_000]
)
def test_a_damaged_record_is_no_text(record):
    add("my-book", "book.txt")
    (user_folder() / "my-book.json").write_bytes(record)
    assert user_texts(user_folder()) == {}


def test_a_record_with_the_name_of_a_known_text_does_not_replace_it():
    add("my-book", "book.txt")
    (user_folder() / "my-book.json").rename(user_folder() / "nietzsche.json")
    assert not all_texts()["nietzsche"].is_added


def test_the_command_adds_a_text_and_lists_it(exit_code, capsys):
    assert exit_code("corpora add my-book book.txt --licence CC0 --json") == 0
    facts = json.loads(capsys.readouterr().out)["my-book"]
    assert exit_code("corpora --json") == 0
    assert json.loads(capsys.readouterr().out)["my-book"] == facts
    assert exit_code("corpora") == 0
    assert f"licence: CC0\n  size:    {len(BOOK.encode())} bytes" in capsys.readouterr().out
    for line, code, message in (
        ("corpora add my-book other.txt", 65, "SHA-256"),
        ("corpora add my-book", 2, "SOURCE"),
        ("corpora add mine http://localhost/x", 2, "only https"),
        ("corpora add mine nothing.txt", 66, "cannot be read"),
    ):
        assert exit_code(line) == code
        assert message in capsys.readouterr().err

"""Named texts: generated, found in folders, checked by their SHA-256; files and folders."""

import hashlib
import os
from pathlib import Path

import pytest

from charlm.data import named_texts
from charlm.data.generated_texts import human_numbers, python_docs, spell
from charlm.data.named_texts import NamedText
from charlm.errors import DataError, InputNotFoundError
from charlm.options.splits import split_of

BOOK = b"a book that is not long, but is the right one\n" * 4
OTHER = b"x" * len(BOOK)
PAGE = Path(__file__).parents[2] / "docs" / "texts.md"


BOOK_TEXT = NamedText(
    description="a book",
    source="https://localhost:1/book.txt",  # nothing listens there
    licence="CC0",
    file="book.txt",
    n_bytes=len(BOOK),
    sha256=hashlib.sha256(BOOK).hexdigest(),
)


def read(source):
    """Return the bytes of one source; "book" is a named text."""
    return b"".join(named_texts.open_texts([source], named_texts.TEXTS | {"book": BOOK_TEXT}))


@pytest.fixture
def search_folders(tmp_path, monkeypatch):
    """Return the three folders that are searched, empty."""
    folders = {"corpora": tmp_path / "corpora", "named": tmp_path / "mine", "cache": tmp_path / "cache" / "charlm"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARLM_CORPORA", os.pathsep.join([str(tmp_path / "nothing"), str(folders["named"])]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return folders


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zero"),
        (1, "one"),
        (13, "thirteen"),
        (20, "twenty"),
        (21, "twenty-one"),
        (40, "forty"),
        (99, "ninety-nine"),
        (100, "one hundred"),
        (101, "one hundred one"),
        (110, "one hundred ten"),
        (999, "nine hundred ninety-nine"),
        (1000, "one thousand"),
        (1042, "one thousand forty-two"),
        (10_000, "ten thousand"),
        (100_000, "one hundred thousand"),
        (1_000_000, "one million"),
        (1_000_001, "one million one"),
        (12_345_678, "twelve million three hundred forty-five thousand six hundred seventy-eight"),
        (10**9, "one billion"),
        (10**12 + 10**6, "one trillion one million"),
        (
            10**15 - 1,
            "nine hundred ninety-nine trillion nine hundred ninety-nine billion nine hundred ninety-nine million "
            "nine hundred ninety-nine thousand nine hundred ninety-nine",
        ),
    ],
)
def test_a_number_is_spelled_in_english(n, words):
    assert spell(n) == words


def test_no_two_numbers_are_spelled_alike():
    assert len({spell(n) for n in range(20_000)}) == 20_000


def test_human_numbers_have_their_registered_sha256():
    data = read("human-numbers")
    assert len(data) == named_texts.TEXTS["human-numbers"].n_bytes
    assert hashlib.sha256(data).hexdigest() == named_texts.TEXTS["human-numbers"].sha256
    assert data.decode().splitlines()[-1] == "nine thousand nine hundred ninety-nine"


def test_the_argument_of_human_numbers_is_the_last_number():
    assert read("human-numbers:3") == b"one\ntwo\nthree\n"
    assert len(human_numbers("500").splitlines()) == 500


@pytest.mark.parametrize("argument", ["0", "-1", "1.5", "many", "10000001", "³"])
def test_an_argument_out_of_range_is_refused(argument):
    with pytest.raises(DataError, match="from 1 to 10000000"):
        read(f"human-numbers:{argument}")


@pytest.mark.parametrize("source", ["python-docs:5", "book:5"])
def test_an_unexpected_argument_is_refused(source, search_folders):
    (search_folders["corpora"] / "book.txt").write_bytes(BOOK)
    with pytest.raises((DataError, InputNotFoundError), match=source):
        read(source)


def test_python_docs_are_long_english_prose():
    text = python_docs()
    assert len(text) > 200_000
    words = text.split()
    assert sum(words.count(word) for word in ("the", "a", "is", "of", "to")) / len(words) > 0.1
    assert read("python-docs").decode() == text


@pytest.mark.parametrize("first", ["corpora", "named", "cache"])
def test_a_named_text_is_read_from_the_first_folder_that_contains_it(first, search_folders):
    for later in list(search_folders)[list(search_folders).index(first) + 1 :]:
        (search_folders[later] / "book.txt").write_bytes(OTHER)  # reading it would fail
    (search_folders[first] / "book.txt").write_bytes(BOOK)
    assert read("book") == BOOK


def test_a_file_with_another_sha256_is_refused(search_folders):
    (search_folders["corpora"] / "book.txt").write_bytes(OTHER)
    with pytest.raises(DataError, match=r"corpora/book\.txt.*SHA-256") as error:
        read("book")
    assert hashlib.sha256(BOOK).hexdigest()[:12] in str(error.value)
    assert hashlib.sha256(OTHER).hexdigest()[:12] in str(error.value)


def test_the_error_for_a_missing_named_text_lists_what_was_searched(search_folders):
    with pytest.raises(InputNotFoundError) as error:
        read("book")
    for tried in (
        "corpora",
        *(str(search_folders[name]) for name in ("named", "cache")),
        "https://localhost:1/book.txt",
    ):
        assert tried in str(error.value)
    assert "refused" in str(error.value)


def test_the_default_cache_folder_is_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named_texts.cache_folder() == tmp_path / ".cache" / "charlm"


def test_a_file_is_read_byte_for_byte(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\xef\xbb\xbfa\r\n\x00\xff")
    assert read(str(tmp_path / "x.bin")) == b"\xef\xbb\xbfa\r\n\x00\xff"


def test_the_txt_files_of_a_folder_are_joined_in_order_by_line_breaks(tmp_path):
    (tmp_path / "b").mkdir()
    for name, data in [("c.txt", b"3"), ("b/z.txt", b"2"), ("a.txt", b"1"), ("b/notes.md", b"no"), ("b/y.txt", b"")]:
        (tmp_path / name).write_bytes(data)
    assert read(str(tmp_path)) == b"1\n\n2\n3"


def test_a_folder_whose_name_ends_in_txt_is_not_read_as_a_file(tmp_path):
    (tmp_path / "old.txt").mkdir()
    (tmp_path / "old.txt" / "a.txt").write_bytes(b"1")
    (tmp_path / "z.txt").write_bytes(b"2")
    assert read(str(tmp_path)) == b"1\n2"


def test_a_folder_without_texts_is_refused(tmp_path):
    (tmp_path / "readme.md").write_text("no text")
    with pytest.raises(DataError, match=r"no \.txt files"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "hint"),
    [("nietsche", "'nietzsche'"), ("human_numbers", "'human-numbers'"), ("pythondocs", "'python-docs'")],
)
def test_a_near_miss_of_a_name_gets_a_suggestion(source, hint):
    with pytest.raises(InputNotFoundError, match=f"did you mean {hint}"):
        read(source)


def test_a_missing_path_is_named_in_the_error():
    with pytest.raises(InputNotFoundError, match=r"^no/such/file\.txt: no such file or folder"):
        read("no/such/file.txt")


def test_a_folder_hides_a_named_text_only_if_it_has_txt_files(search_folders, tmp_path):
    (search_folders["corpora"] / "book.txt").write_bytes(BOOK)
    (tmp_path / "book" / "gru-0.txt").mkdir(parents=True)  # of a benchmark that is named after the text
    assert read("book") == BOOK
    (tmp_path / "book" / "a.txt").write_bytes(OTHER)
    assert read("book") == OTHER


@pytest.mark.parametrize(
    "source", ["word " * 60_000, "line\n", "nul\x00byte", "\ud800"], ids=["long", "line", "nul", "half"]
)
def test_a_text_in_place_of_a_name_is_shortened_with_the_way_to_train_on_a_text(source):
    with pytest.raises(InputNotFoundError) as error:
        read(source)
    assert len(str(error.value)) < 250 and str(error.value).isprintable()
    assert "charlm.train(text=...) in Python, or standard input with --corpus -" in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_unreadable_file_is_named_in_the_error(tmp_path):
    (tmp_path / "secret.txt").write_bytes(BOOK)
    (tmp_path / "secret.txt").chmod(0)
    for source in (tmp_path / "secret.txt", tmp_path):
        with pytest.raises(InputNotFoundError, match=r"secret\.txt: cannot be read: Permission denied"):
            read(str(source))


@pytest.mark.parametrize("name", list(named_texts.TEXTS))
def test_every_named_text_has_description_source_and_licence(name):
    text = named_texts.TEXTS[name]
    assert text.description and text.source and text.licence
    assert (text.make is None) == (text.file is not None)
    assert text.make is not None or (text.n_bytes is None) == (text.sha256 is None)
    assert split_of(text.split)


def test_nietzsche_is_read_from_its_file(nietzsche, monkeypatch):
    monkeypatch.setenv("CHARLM_CORPORA", str(nietzsche.parent))
    assert read("nietzsche") == nietzsche.read_bytes()


def test_the_default_and_its_fallback_are_named_texts_and_the_fallback_needs_no_network():
    assert named_texts.DEFAULT_TEXT in named_texts.TEXTS
    assert named_texts.TEXTS[named_texts.FALLBACK_TEXT].make is not None


@pytest.mark.parametrize("name", list(named_texts.TEXTS))
def test_the_page_of_texts_has_licence_split_and_sha256_of_each_text(name):
    text = named_texts.TEXTS[name]
    row, *_ = [
        line
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| `") and f"`{name}`" in line.split("|")[1]
    ]
    cells = [cell.strip(" `") for cell in row.split("|")]
    assert text.licence.split(" (")[0] in row
    if text.sha256 is not None:
        assert {f"{text.n_bytes:,}", text.sha256, text.split} <= set(cells)
    if not text.is_pinned and text.n_files == 1:
        assert {"pinned by you", text.split} <= set(cells)

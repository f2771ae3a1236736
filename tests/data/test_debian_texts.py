"""Texts of Debian packages: those of this machine, and packages laid out in a folder."""

import gzip
import re

import pytest

from charlm.data import debian_texts
from charlm.data.named_texts import TEXTS, describe, open_texts
from charlm.errors import DataError, InputNotFoundError

PACKAGES = [name for name, text in TEXTS.items() if text.package]


@pytest.fixture
def install(tmp_path):
    """Return a function that lays out a package with files in a folder, and returns the folder."""

    def lay_out(package, files):
        listing = tmp_path / "var/lib/dpkg/info" / f"{package}.list"
        listing.parent.mkdir(parents=True)
        listing.write_text("".join(f"/{name}\n" for name in ["usr", "usr/share", *files]))
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
            (tmp_path / name).chmod(0o755)
        return tmp_path

    return lay_out


def test_the_bible_is_what_the_program_prints_without_headings_and_numbers(install):
    program = (
        b"#!/bin/sh\nprintf '\\nGenesis 1\\n\\n  1 In the beginning\\n 10 And 2 days\\nRuth 1\\n'; echo \"$@\" >&2\n"
    )
    assert debian_texts.bible_kjv(install("bible-kjv", {"usr/bin/bible": program})) == "In the beginning\nAnd 2 days\n"


def test_a_program_that_fails_is_named(install):
    root = install("bible-kjv", {"usr/bin/bible": b"#!/bin/sh\nexit 3\n"})
    with pytest.raises(InputNotFoundError, match="bible-kjv: .*/usr/bin/bible fails: .* exit status 3"):
        debian_texts.bible_kjv(root)


def test_the_dictionary_is_unpacked_and_bytes_that_are_not_utf8_are_replaced(install):
    files = {
        "usr/share/dictd/gcide.dict.dz": gzip.compress("\u00e6on\n".encode() + b"\x92\n"),
        "usr/share/dictd/gcide.index": b"x",
    }
    assert debian_texts.dict_gcide(install("dict-gcide", files)) == "\u00e6on\n\ufffd\n"


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:10] + b"\x07" + data[11:]])
def test_a_damaged_file_of_a_package_is_named(damage, install):
    root = install("dict-gcide", {"usr/share/dictd/gcide.dict.dz": damage(gzip.compress(bytes(range(99))))})
    with pytest.raises(InputNotFoundError, match="gcide.dict.dz: cannot be read"):
        debian_texts.dict_gcide(root)


def test_fortunes_are_the_files_without_index_in_order_of_name(install):
    folder = "usr/share/games/fortunes"
    files = {f"{folder}/wit": b"2\n%\n", f"{folder}/art": b"1\n%\n", f"{folder}/art.dat": b"index"}
    root = install("fortunes", files)
    (root / folder / "of-another-package").write_text("3\n%\n")
    assert debian_texts.fortunes(root) == "1\n%\n2\n%\n"


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path):
    for read in (debian_texts.bible_kjv, debian_texts.dict_gcide, debian_texts.fortunes, debian_texts.miscfiles):
        with pytest.raises(
            InputNotFoundError, match=r"^[a-z-]+: the Debian package is not installed.* apt-get install"
        ):
            read(tmp_path)


@pytest.mark.parametrize(
    ("read", "package", "file", "missing"),
    [
        (debian_texts.bible_kjv, "bible-kjv", "usr/bin/randverse", "/usr/bin/bible"),
        (debian_texts.dict_gcide, "dict-gcide", "usr/share/dictd/gcide.index", r"/usr/share/dictd/\*.dz"),
        (debian_texts.fortunes, "fortunes", "usr/share/doc/copyright", r"/usr/share/games/fortunes/\*"),
        (debian_texts.miscfiles, "miscfiles", "usr/share/dict/propernames", "/usr/share/dict/web2"),
    ],
)
def test_a_package_without_its_texts_is_refused(read, package, file, missing, install):
    with pytest.raises(DataError, match=f"{package}: the Debian package has no {missing};"):
        read(install(package, {file: b"x"}))


@pytest.mark.parametrize("name", PACKAGES)
def test_an_installed_package_is_a_long_text(name):
    if not debian_texts.is_installed(name):
        assert "apt-get install" in describe(TEXTS[name])["missing"]
        pytest.skip(f"the Debian package {name} is not installed")
    assert describe(TEXTS[name])["found"] == f"in the package {name}"
    text = b"".join(open_texts([name])).decode()
    assert len(text) > 2_000_000
    assert len(re.findall(r"[a-z]{2,}", text)) > 200_000

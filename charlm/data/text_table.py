"""The named texts: description, source, licence, split of publications, and SHA-256 where the bytes were verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from charlm.data import debian_texts, synthetic_texts
from charlm.data.generated_texts import human_numbers, python_docs
from charlm.options.splits import STANDARD

RAW = "https://raw.githubusercontent.com/karpathy"


@dataclass(frozen=True)
class NamedText:
    """A named corpus.

    Attributes:
        description: one line.
        source: URL, or origin.
        licence: licence of the text.
        file: file name; None for a text without a file of its own.
        n_bytes: size, also the limit of a download; None if it varies or is not known.
        sha256: SHA-256 of the file, hexadecimal; None if it varies or is not known.
        split: the split of publications, and the default.
        n_files: 1, or 3 for training, validation and test part, whose sizes are then the split.
        make: returns a text without a file, given the part of the name after the colon.
        takes_argument: a colon and an argument may follow the name.
        package: Debian package of the text.
        spaced: its files have a space after each character and `_` for a space.
        is_added: the user has added it.
    """

    description: str
    source: str
    licence: str
    file: str | None = None
    n_bytes: int | None = None
    sha256: str | None = None
    split: str = STANDARD
    n_files: int = 1
    make: Callable[[str], str] | None = None
    takes_argument: bool = False
    package: str | None = None
    spaced: bool = False
    is_added: bool = False

    @property
    def is_pinned(self) -> bool:
        """Return whether the bytes are known: by their SHA-256, or because they are made."""
        return self.sha256 is not None or self.make is not None


def _debian(package: str, description: str, licence: str, make: Callable[[], str]) -> NamedText:
    source = f"Debian package {package}"
    return NamedText(description, source, licence, make=lambda _: make(), package=package)


TEXTS: dict[str, NamedText] = {
    "nietzsche": NamedText(
        description="Friedrich Nietzsche in English: two books, the text of the Keras examples",
        source="https://s3.amazonaws.com/text-datasets/nietzsche.txt",
        licence="public domain (translations by Helen Zimmern and Alexander Harvey)",
        file="nietzsche.txt",
        n_bytes=600_901,
        sha256="23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647",
    ),
    "tiny-shakespeare": NamedText(
        description="40,000 lines of Shakespeare, of char-rnn; its split is that of torch-rnn, see docs/texts.md",
        source=f"{RAW}/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        licence="public domain",
        file="tiny-shakespeare.txt",
        n_bytes=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "names": NamedText(
        description="32,033 first names, one a line, of makemore",
        source=f"{RAW}/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt",
        licence="public domain (ssa.gov)",
        file="names.txt",
        n_bytes=228_145,
        sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        split="makemore",
    ),
    "shakespeare": NamedText(
        description="all of Shakespeare, of Karpathy 2015 (The Unreasonable Effectiveness)",
        source="https://cs.stanford.edu/people/karpathy/char-rnn/shakespeare_input.txt",
        licence="public domain",
        file="shakespeare.txt",
    ),
    "war-and-peace": NamedText(
        description="Tolstoy in English, of Karpathy et al. 2015 (arXiv:1506.02078)",
        source="https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
        licence="public domain",
        file="war-and-peace.txt",
    ),
    "enwik8": NamedText(
        description="the first 100,000,000 bytes of Wikipedia as XML; publications count bytes: --bytes",
        source="https://mattmahoney.net/dc/enwik8.zip",
        licence="GFDL",
        file="enwik8.txt",
        split="90/5/5",
    ),
    "text8": NamedText(
        description="100,000,000 bytes of Wikipedia in 27 characters",
        source="https://mattmahoney.net/dc/text8.zip",
        licence="GFDL",
        file="text8.txt",
        split="90/5/5",
    ),
    "penn-treebank": NamedText(
        description="Wall Street Journal as prepared by Mikolov: ptb.char.train.txt, ....valid.txt, ....test.txt",
        source="simple-examples.tgz of the RNNLM toolkit",
        licence="LDC (Treebank-3, LDC99T42)",
        file="penn-treebank.txt",
        n_files=3,
        spaced=True,
    ),
    "bible-kjv": _debian("bible-kjv", "King James Bible, one verse a line", "public domain", debian_texts.bible_kjv),
    "dict-gcide": _debian(
        "dict-gcide", "GNU Collaborative International Dictionary of English", "GPL-2+", debian_texts.dict_gcide
    ),
    "fortunes": _debian("fortunes", "fortune cookies, divided by %", "BSD and others", debian_texts.fortunes),
    "miscfiles": _debian(
        "miscfiles", "words of Webster's Second International, one a line", "GPL-2+", debian_texts.miscfiles
    ),
    "human-numbers": NamedText(
        description="one, two, three, ... spelled out; human-numbers:500 ends at five hundred",
        source="generated by charlm",
        licence="CC0",
        n_bytes=345_500,
        sha256="7688a366e818b7cdf2edef795ac05490b2bf637d74d90880f46dae70f33ea117",
        make=human_numbers,
        takes_argument=True,
    ),
    "python-docs": NamedText(
        description="the reference prose of Python's help(); differs between Python versions",
        source="pydoc_data.topics of the running Python",
        licence="PSF licence",
        make=lambda _: python_docs(),
    ),
    **{
        kind: NamedText(
            about,
            "generated by charlm (data/synthetic_texts.py)",
            "CC0",
            make=synthetic_texts.SOURCES[kind],
            takes_argument=True,
        )
        for kind, about in {
            "markov": "random letters that depend on the two letters before; markov:3: on three",
            "brackets": "nested brackets of three kinds, at most 4 deep; brackets:9: at most 9",
            "copy": "eight random letters, a bar, the same letters; copy:20: twenty",
            "parity": "eight binary digits and their sum modulo 2; parity:20: twenty",
        }.items()
    },
}

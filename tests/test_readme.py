"""README and docs: their commands parse, the files that they name exist, and the example model works."""

import re
import shlex
from pathlib import Path

import click
import pytest

from charlm.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [path for folder in (".", "docs", "benchmarks", "corpora") for path in sorted((ROOT / folder).glob("*.md"))]
BLOCKS = [
    block for page in PAGES for block in re.findall(r"```(\w*)\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
]
COMMANDS = [
    line.split("#")[0].split(" | ")[-1].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if re.search(r"(^|\| )charlm ", line)
]


def test_the_readme_and_the_docs_contain_commands():
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text("utf-8")
    linked = [page.parent / link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)]
    named = [ROOT / name for name in re.findall(r"\b(?:tests|benchmarks|docs)/[\w./-]*\w", text)]
    assert [str(path) for path in linked + named if not path.exists()] == []


def anchors(page):
    """Return the anchors of a page's headings, as GitHub names them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_that_a_page_links_to_exist(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text("utf-8"))
    assert [anchor for file, anchor in links if anchor not in anchors(page.parent / file if file else page)] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_the_options_of_a_documented_command_exist(line):
    _, name, *arguments = shlex.split(line)
    parent = cli.make_context("charlm", [name])
    command = cli.get_command(parent, name)
    assert command is not None
    command.make_parser(click.Context(command, parent=parent)).parse_args(arguments)


def test_the_readme_lists_every_folder_of_the_package():
    folders = {path.parent.name for path in (ROOT / "charlm").glob("*/__init__.py")} - {"recipes"}
    assert set(re.findall(r"^- `(\w+)/`:", README, flags=re.MULTILINE)) == folders


def test_the_readme_is_at_most_150_lines_with_one_table():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert sum(set(line) <= set("| -") and "-" in line for line in lines if line.startswith("|")) == 1


def test_the_first_command_trains_nn_rnn_and_continues_a_prompt():
    first = next(block for kind, block in BLOCKS if kind == "sh" and "venv" in block)
    assert first.endswith('charlm train --model rnn && .venv/bin/charlm sample --prime "supposing"\n')


def test_ci_runs_the_test_command_of_the_readme():
    command = re.search(r"<!-- test command -->\n```sh\n(.*?)\n```", README)
    assert command is not None and command[1].endswith(".venv/bin/pytest")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text("utf-8")

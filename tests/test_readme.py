"""What the README says is so: its commands parse, its model can be added, its map is complete."""

import re
import shlex
from pathlib import Path

import click
import pytest
import torch

import charlm.models
from charlm.cli import cli
from charlm.models.base import CharModel

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].split(" | ")[-1].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if re.search(r"(^|\| )charlm ", line)
]


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_has_options_that_exist(line):
    _, name, *arguments = shlex.split(line)
    parent = cli.make_context("charlm", [name])
    command = cli.get_command(parent, name)
    assert command is not None
    command.make_parser(click.Context(command, parent=parent)).parse_args(arguments)


def test_the_model_of_the_readme_is_one_class_and_one_line(monkeypatch):
    source = next(block for kind, block in BLOCKS if kind == "python" and "class Mine" in block)
    names = {"CharModel": CharModel, "torch": torch, "nn": torch.nn, "Tensor": torch.Tensor}
    exec(source, names)
    monkeypatch.setitem(charlm.models.MODELS, "mine", names["Mine"])
    model = charlm.models.build("mine", 10, n_embed=7)
    chars = torch.randint(10, (2, 5))
    whole, _ = model(chars)
    assert whole.shape == (2, 5, 10)
    first, state = model(chars[:, :2])
    torch.testing.assert_close(torch.cat([first, model(chars[:, 2:], state)[0]], dim=1), whole)
    assert charlm.models.options_of("mine") == {"n_embed": 42, "keep": 0.8}


def test_the_map_names_every_module():
    modules = [path.name for path in (ROOT / "charlm").glob("*.py") if not path.name.startswith("__")]
    assert [name for name in modules if name not in README] == []


def test_ci_runs_the_test_command_of_the_readme():
    command = re.search(r"<!-- test command -->\n```sh\n(.*?)\n```", README)
    assert command is not None and command[1].endswith(".venv/bin/pytest")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text("utf-8")

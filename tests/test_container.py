"""The Dockerfile, as far as it can be checked without a container engine."""

import json
import re
import shlex
import tomllib
from pathlib import Path, PurePosixPath

from charlm.cli import cli

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
STEPS = [tuple(line.split(maxsplit=1)) for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if line]
COPIED = [source for name, text in STEPS if name == "COPY" for source in text.split()[:-1]]


def argument(name):
    """Return the argument of the only instruction of a name."""
    (found,) = (text for step, text in STEPS if step == name)
    return found


def test_it_has_ten_instructions_in_an_order_that_builds():
    names = [name for name, _ in STEPS]
    assert names == ["FROM", "RUN", "WORKDIR", "COPY", "COPY", "COPY", "RUN", "USER", "EXPOSE", "CMD"]


def test_the_image_is_slim_and_has_a_python_that_the_package_supports():
    major, minor = map(int, re.fullmatch(r"python:(\d+)\.(\d+)-slim", argument("FROM")).groups())
    assert (major, minor) >= tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))


def test_all_that_is_copied_exists_and_all_that_the_build_needs_is_copied():
    assert [source for source in COPIED if not (ROOT / source).exists()] == []
    build = PROJECT["tool"]["hatch"]
    wheel = build["build"]["targets"]["wheel"]
    needed = [PROJECT["project"]["readme"], build["version"]["path"], *wheel["packages"], *wheel["force-include"]]
    parents = [[str(path) for path in (PurePosixPath(name), *PurePosixPath(name).parents)] for name in needed]
    assert [names[0] for names in parents if not set(names) & set(COPIED)] == []


def test_the_extra_and_the_constraints_that_pip_installs_exist():
    pip = shlex.split([text for name, text in STEPS if name == "RUN"][1])
    assert pip[:2] == ["pip", "install"] and pip[pip.index("-c") + 1] == "constraints.txt"
    (extra,) = re.fullmatch(r"\.\[(\w+)\]", pip[-1]).groups()
    assert extra in PROJECT["project"]["optional-dependencies"]


def test_the_command_exists_and_is_run_by_the_user_that_is_made():
    program, name, *arguments = json.loads(argument("CMD"))
    assert program in PROJECT["project"]["scripts"]
    parent = cli.make_context(program, [name])
    command = cli.get_command(parent, name)
    assert command is not None
    parsed = command.make_context(name, arguments, parent=parent).params
    assert parsed["host"] == "0.0.0.0" and str(parsed["port"]) == argument("EXPOSE")
    user = argument("USER")
    assert user != "root" and f"useradd --create-home {user}" in [text for step, text in STEPS if step == "RUN"]

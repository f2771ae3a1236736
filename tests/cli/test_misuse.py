"""Command lines made from the commands' own options, most of them wrong: one line, an exit code, nothing left over."""

import io
import shlex
import sys
import time
from dataclasses import replace

import click
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from charlm.cli import COMMANDS, cli, main
from charlm.cli.options import Number
from charlm.data import named_texts
from charlm.data.generated_texts import human_numbers
from charlm.models import MODELS

CODES = {0, 1, 2, 65, 66, 74}
SECONDS = 30  # of one command line, of this process
TINY = "--n-hidden 4 --n-embed 4 --bptt 8 --batch-size 4"
TRAIN = f"train --corpus good.txt --model gru {TINY} --epochs 1"

LIMITS = {  # options with which a valid command line ends at once
    "train": f"--corpus good.txt --epochs 1 {TINY}",
    "sample": "--length 5",
    "bench": "rnn --corpus good.txt --epochs 1 --seeds 1",
    "lesson": "--corpus good.txt --epochs 1 --steps char3",
    "lr-find": f"--corpus good.txt --n-steps 20 {TINY}",
    "serve": "no-such-run",  # a server would not end
}
SLOW = {("lesson", "--protocol")}  # trains every architecture at its full size
RUNS = ["made", "everything", "checkpoints/made", "checkpoints/made/best.safetensors"]
GOOD = {
    "--recipe": ["lesson-char3", "lesson-loop", "lesson-gru", "quick", "best", "own.toml"],
    "--model": list(MODELS),
    "--from": RUNS,
    "--resume": RUNS,
    "--corpus": ["good.txt", "human-numbers:50", "-", "."],
    "--n-context": ["3"],
    "--learning-rate": ["0.01"],
    "--freeze": ["embedding", "rnn", "head,embedding"],
    "--group-rates": ["0.5", "0.1,1"],
    "-o": ["n_layers=2", "order=3", "n_embed=3", "dropout=0.1", "tied=true"],
    "--init": ["identity", "uniform"],
    "--name": ["mine", "a b", "-x"],
    "--prime": ["one", "one two", "x"],
    "--prime-file": ["good.txt", "-"],
    "--stop": ["\\n", "e"],
    "--weights": ["1", "0.5,0.5"],
    "--steps": ["char3", "rnn", "loop,multi"],
    "--html": ["page.html"],
    "--plot": ["curve.png"],
    "--checkpoints": ["checkpoints", "more", "a/b"],
    "--parameters": ["2000"],
    "--min-count": ["2"],
    "--n-cycles": ["2"],
    "--n-steps": ["20"],
    "--lowest": ["0.001"],
    "--highest": ["2"],
    "run": RUNS,
    "arguments": [*RUNS, "good.txt", "-", "."],
    "model": ["rnn", "char3", "ngram", "lesson-char3"],
    "name": ["gru", "ngram", "lesson-gru", "quick"],
    "file": ["out.safetensors", "good.txt"],
    "compress --model": RUNS,
    "decompress --model": RUNS,
    "compress -o": ["out.bin", "-"],
    "decompress -o": ["out.bin", "-"],
    "compress file": ["good.txt", "-", "garbage.safetensors"],
    "decompress file": ["good.bin", "-"],
}
NUMBERS = ["", " ", "-", "--", "0", "-1", "1.5", "nan", "inf", "-inf", "1e300", "1e400", "-1e-400", "0x10", "1e5"]
NUMBERS += [str(10**20), str(2**63), str(-(2**63)), "9" * 5000, "1,2", ",", "true", "None"]
TEXTS = [
    "x" * 300,
    "é" * 5000,
    "x" * 99_999,
    "\x1b[2J",
    "a\nb",
    "\r",
    "\x7f",
    "\u202e",
    "\udcff",
    "\ufeff",
    "%s",
    "{}",
    "~",
]
TEXTS += ["*", ":", "=", "a=b", "=1", "n_hidden=", "n_hidden=big", f"n_hidden={2**63}", "order=99", f"x={'[' * 5000}"]
FILES = ["nothere.txt", "no-texts", "empty.txt", "latin1.txt", "short.txt", "garbage.safetensors", "cut.safetensors"]
FILES += ["bad.toml", "good.txt", "good.txt/x", ".", "checkpoints", "spoilt", "human-numbers:0", "markov:99", "x.py:C"]
WRONG = [*NUMBERS, *TEXTS, *FILES]
OUTSIDE = ["..", "../x", "../../x", "a/../../x"]  # names only: a path may lie anywhere


def flags(command):
    """Return the options of a command: names and click's parameter; an argument's name is empty."""
    parameters = cli.get_command(None, command).params
    return [
        (command, flag, parameter)
        for parameter in parameters
        for flag in ([*parameter.opts, *parameter.secondary_opts] if isinstance(parameter, click.Option) else [""])
        if (command, flag) not in SLOW
    ]


FLAGS = {command: flags(command) for command in COMMANDS}
EVERY_FLAG = [found for flags in FLAGS.values() for found in flags]


def values(command, flag, parameter):
    """Return strategies of valid and of wrong values."""
    kind, name = parameter.type, parameter.opts[0]
    wrong = WRONG if isinstance(kind, click.Path) or flag == "--checkpoints" else WRONG + OUTSIDE
    noise = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=20)
    if isinstance(kind, click.Choice):
        good = [choice for choice in kind.choices if choice not in ("cuda", "mps")]
    elif isinstance(kind, Number) and name not in GOOD:
        good = ["1"] if kind.range.contains(1) else ["0.5"]
    else:
        good = GOOD.get(f"{command} {name}", GOOD.get(name, ["1"]))
    wrong = NUMBERS if isinstance(kind, Number) else wrong
    return st.sampled_from(good), st.one_of(st.sampled_from(wrong), noise.filter(lambda text: not text.isdecimal()))


@st.composite
def good_part(draw, found):
    """An option with a valid value, or a valid argument."""
    _, flag, parameter = found
    if getattr(parameter, "is_flag", False):
        return [flag]
    value = draw(values(*found)[0])
    return [flag, value] if flag else [value]


@st.composite
def wrong_part(draw, found):
    """A wrong value, or a wrong option."""
    _, flag, parameter = found
    good, wrong = values(*found)
    if not flag:
        return [draw(wrong)]
    if getattr(parameter, "is_flag", False):
        return draw(st.sampled_from([[f"{flag}="], [f"{flag}=1"], [flag[:-1]], [flag, flag, "1"]]))
    how = draw(st.sampled_from(["value"] * 9 + ["joined", "bare", "misspelt"]))
    if how == "bare":
        return [flag]
    if how == "joined":
        return [f"{flag}={draw(wrong)}"]
    return [flag[:-1], draw(good)] if how == "misspelt" else [flag, draw(wrong)]


@st.composite
def command_lines(draw):
    """A command line that ends soon if it is valid."""
    command = draw(st.sampled_from(list(COMMANDS)))
    n_good, n_wrong = draw(st.sampled_from([(2, 0), (3, 0), (5, 0), (0, 1), (1, 1), (2, 1), (4, 1), (1, 2), (0, 4)]))
    known = [found for found in FLAGS[command] if found[2].expose_value]  # not FILE.py:CLASS
    takes_value = [found for found in FLAGS[command] if not getattr(found[2], "is_flag", False)] or known
    chosen = [(found, good_part) for found in known if not found[1] and found[2].required]
    chosen += [(draw(st.sampled_from(known)), good_part) for _ in range(n_good)]
    for _ in range(n_wrong):
        everything = [takes_value] * 12 + [known, EVERY_FLAG]
        chosen.append((draw(st.sampled_from(draw(st.sampled_from(everything)))), wrong_part))
    parts = {}
    for i, (found, part) in enumerate(chosen):
        takes_several = found[2].nargs == -1 or getattr(found[2], "multiple", False) or draw(st.integers(0, 19)) == 0
        parts[bool(found[1]), i if takes_several else found[2].name] = draw(part(found))
    options = draw(st.permutations([arguments for (is_option, _), arguments in parts.items() if is_option]))
    arguments = [arguments for (is_option, _), arguments in parts.items() if not is_option]
    flat = [argument for arguments in [*options, *arguments] for argument in arguments]
    limits = [] if "--resume" in flat else shlex.split(LIMITS.get(command, ""))
    called = draw(st.sampled_from([command] * 40 + ["", "-", "trian", "x" * 9999, "\x1b[2J", "--train", "9"]))
    return [called, *limits, *flat]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with good and bad files and the runs "made" and "everything", as the working directory."""
    folder = tmp_path_factory.mktemp("outer") / "home"
    files = {
        "good.txt": human_numbers("100").encode(),
        "empty.txt": b"",
        "short.txt": b"abc",
        "latin1.txt": b"\n" + "ä".encode("latin-1") * 200,
        "bad.toml": b"epochs = = 1",
        "own.toml": b'corpus = ["good.txt"]\nmodel = "rnn"\nepochs = 1\n[options]\nn_hidden = 3\n',
        "garbage.safetensors": bytes(range(256)) * 20,
        "checkpoints/spoilt/metrics.jsonl": b"{}\n",
        "checkpoints/spoilt/recipe.toml": b"model = ",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "no-texts").mkdir()
    nowhere = replace(named_texts.TEXTS["nietzsche"], source="https://localhost:1/nietzsche.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("CHARLM_CORPORA", raising=False)
        patch.setenv("HOME", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("no_proxy", "*")
        patch.setitem(named_texts.TEXTS, "nietzsche", nowhere)
        everything, compressed = f"{TRAIN} --name everything --split all --json", "compress good.txt -o good.bin"
        for line in (f"{TRAIN} --name made --json", everything, f"{compressed} --model made"):
            with pytest.raises(SystemExit, match="0"):
                main(shlex.split(line))
        made = folder / "checkpoints" / "made" / "best.safetensors"
        (folder / "cut.safetensors").write_bytes(made.read_bytes()[:-1])
        yield folder


def contents(folder):
    """Return the bytes of the files in a folder and the folders in it, as None."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def restore(folder, before):
    """Undo all changes in a folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path not in before:
            path.rmdir() if path.is_dir() else path.unlink()
    for path, data in before.items():
        if data is None:
            path.mkdir(exist_ok=True)
        elif not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)


def problem(line, home, capsysbinary):
    """Run a command line and return how it misbehaves; None if it does not."""
    outer = home.parent
    before, since = contents(outer), time.process_time()
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b"one\ntwo\nthree\n"), "utf-8")
    try:
        main(line)
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.stdin.close()
        sys.stdin = stdin
        seconds, after = time.process_time() - since, contents(outer)
        restore(outer, before)
    out, err = (printed.decode(errors="replace") for printed in capsysbinary.readouterr())
    changed = [path for path in before.keys() | after.keys() if before.get(path, 0) != after.get(path, 0)]
    last = (err.splitlines() or [""])[-1]
    if code not in CODES:
        return f"exit code {code}: {last}"
    if "Traceback" in err or code == 1 and "--debug" in last:
        return f"an exception that nobody expected: {err[-2000:]}"
    if any(home not in path.parents for path in changed):
        return f"wrote outside the folder: {changed}"
    if seconds > SECONDS:
        return f"took {seconds:.0f} seconds"
    if code == 0 or err.startswith("Usage: charlm"):
        return None
    if not last.startswith("charlm: ") or len(last) > 900:
        return f"no line that says what is wrong: {err[-2000:]!r}"
    if code != 1 and out:
        return f"standard output of an error: {out[:200]!r}"
    if code == 2 and (err.count("\n") > 3 or not all(text.startswith("charlm: ") for text in err.splitlines())):
        return f"more than a line and notes: {err!r}"
    if code in (2, 65, 66) and any(after.get(path, b"") is not None for path in changed):  # an empty folder may stay
        return f"an error left files: {changed}"
    return None


def no_line_misbehaves(n, home, capsysbinary):
    """Run `n` command lines."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=checks)
    @given(command_lines())
    def check(line):
        note(shlex.join(line))
        assert problem(line, home, capsysbinary) is None

    check()


@pytest.mark.parametrize("n", [150, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_misused_command_line_ends_in_one_line_and_leaves_nothing(n, home, capsysbinary):
    no_line_misbehaves(n, home, capsysbinary)

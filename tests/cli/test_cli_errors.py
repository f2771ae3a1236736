"""An error is one line on stderr and an exit code: what is wrong, where, and the remedy."""

import os
import shlex
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from charlm.cli import main
from charlm.data import named_texts
from charlm.data.generated_texts import human_numbers
from charlm.errors import CharlmError

NOT_HERE = "cuda" if not torch.cuda.is_available() else "mps"
TINY = "--n-hidden 4 --n-embed 4 --bptt 8 --batch-size 4"
TRAIN = f"train --corpus good.txt --model gru {TINY} --epochs 1"
FIND = f"lr-find --corpus good.txt {TINY}"
HUGE = 10**20

ERRORS = [
    ("trian", 2, "no command 'trian'; did you mean 'train'?"),
    ("frobnicate", 2, "no command 'frobnicate'"),
    (f"{TRAIN} --learnin-rate 1", 2, "--learning-rate"),
    (f"{TRAIN} --colour red", 2, "--colour"),
    ("info made extra", 2, "extra"),
    (f"{TRAIN} --optimizer lion", 2, "adamw"),
    (f"{TRAIN} --feed strem", 2, "stream"),
    (f"{TRAIN} --epochs 0", 2, "--epochs must be at least 1, got 0"),
    (f"{TRAIN} --epochs many", 2, "many"),
    (f"{TRAIN} --learning-rate -1", 2, "--learning-rate must be above 0, got -1"),
    (f"{TRAIN} --learning-rate nan", 2, "--learning-rate must be above 0 and finite, got nan"),
    (f"{TRAIN} --learning-rate 0", 2, "--learning-rate must be above 0, got 0"),
    (f"{TRAIN} --learning-rate inf", 2, "--learning-rate must be above 0 and at most 1e+30, got inf"),
    (f"{TRAIN} --dropout 1.5", 2, "--dropout must be at least 0 and below 1, got 1.5"),
    (f"{TRAIN} --head-dropout nan", 2, "--head-dropout must be at least 0 and below 1, got nan"),
    (f"{TRAIN} --n-hidden 0", 2, "--n-hidden must be at least 1 and at most 65,536, got 0"),
    (f"{TRAIN} --n-hidden 65536 --n-layers 99", 2, "model gru: n_hidden is 65536: the weights need 10,"),
    (f"{TRAIN} --n-layers 100000000000", 2, "--n-layers must be at least 1 and at most 1,000, got 100000000000"),
    (f"{TRAIN} --n-hidden 9223372036854775808", 2, "--n-hidden must be at least 1 and at most 65,536"),
    (f"{TRAIN} --min-count {HUGE}", 2, "--min-count must be at least 1 and at most 2^53, got 1000"),
    (f"{TRAIN} --group-rates 1,x", 2, "--group-rates must be a number, got 'x'"),
    (f"{TRAIN} --batch-size 0", 2, "--batch-size must be at least 1, got 0"),
    (f"{TRAIN} --seed -1", 2, "--seed must be at least 0 and below 2^64, got -1"),
    (f"{TRAIN} --seed {HUGE}", 2, "seed"),
    (f"{TRAIN} --minutes 0", 2, "--minutes must be above 0, got 0"),
    (f"{TRAIN} --minutes -1", 2, "--minutes must be above 0, got -1"),
    (f"{TRAIN} --clip -1", 2, "--clip must be above 0, got -1"),
    (f"{TRAIN} --drop-epochs -1", 2, "--drop-epochs must be at least 0, got -1"),
    (f"{TRAIN} --schedule steps --hold-epochs 1 --drop-epochs 1", 2, "epochs"),
    ("train --corpus nothere.txt --model lsmt", 2, "no model 'lsmt'"),
    ("train --corpus nothere.txt --model gru -o heads=2", 2, "model gru has no option 'heads'"),
    ("train --corpus nothere.txt --model char3 --feed stream", 2, "--feed windows"),
    ("lr-find --corpus nothere.txt --model lsmt", 2, "no model 'lsmt'"),
    (f"train --corpus nothere.txt --device {NOT_HERE}", 2, "is not available"),
    (f"{TRAIN} --model lsmt", 2, "no model 'lsmt'; did you mean 'lstm'?"),
    (f"{TRAIN} --model GRUU", 2, "no model 'GRUU'; did you mean 'gru'?"),
    (f"{TRAIN} --model CharLoopModel", 2, "no model 'CharLoopModel'; here it is called 'loop'"),
    (f"{TRAIN} --model nn.RNN", 2, "here it is called 'rnn'"),
    (f"{TRAIN} --model gru -o heads=2", 2, "model gru has no option 'heads'"),
    (f"{TRAIN} --model gru -o n_hiden=2", 2, "did you mean 'n_hidden'?"),
    (f"{TRAIN} -o n_hidden", 2, "KEY=VALUE"),
    (f"{TRAIN} -o n_hidden=big", 2, "n_hidden must be an integer, got 'big'"),
    (f"{TRAIN} --model char3 --n-layers 2", 2, "no option 'n_layers'"),
    (f"{TRAIN} --model char3 --feed stream", 2, "--feed windows"),
    (f"{TRAIN} --model rnn --init zeros", 2, "identity"),
    (f"{TRAIN} --split random20", 2, "random20"),
    (f"{TRAIN} --feed chunks --bptt 500 --split random20", 65, "has 2 chunks, too few to hold out a fifth"),
    (f"{TRAIN} --device {NOT_HERE}", 2, f"device '{NOT_HERE}' is not available; available: "),
    ("train --corpus good.txt --minutes 1 --hold-epochs 1", 2, "give the total number of --epochs"),
    (f"{TRAIN} --batch-size 100000", 65, "too few for 100000 lanes"),
    (f"{TRAIN} --feed chunks --bptt 100000", 65, "sequences of 100000 need more"),
    ("train --corpus nothere.txt", 66, "nothere.txt: no such file"),
    ("train --corpus nietsche", 66, "did you mean 'nietzsche'?"),
    ("train --corpus nietzsche", 66, "put the file into corpora/"),
    ("train --corpus no-texts", 65, "no-texts: this folder has no .txt files"),
    ("train --corpus empty.txt", 65, "empty.txt: the text is empty"),
    ("train --corpus short.txt", 65, "short.txt: the text has only 3 characters"),
    ("train --corpus good.txt --min-count 1000000", 65, "no character occurs 1000000 times in the training part"),
    (f"{TRAIN} --model lstm-ngram --feed windows", 2, "lstm-ngram reads further back than a window"),
    (f"{TRAIN} --model lstm --bf16", 2, "lstm: PyTorch would run its layers in float16, not bf16"),
    (f"{TRAIN} --model awd-lstm --bf16", 2, "awd-lstm: PyTorch would run its layers in float16"),
    (f"{TRAIN} --bytes --lower", 2, "--lower and --min-count need characters"),
    (f"{TRAIN} --bytes --min-count 2", 2, "--lower and --min-count need characters"),
    ("bench rnn --corpus good.txt --split all", 2, "split all has no held-out part"),
    ("bench rnn --corpus good.txt --split 9/0/0", 2, "split 9/0/0 has no held-out part"),
    ("bench rnn --corpus good.txt --split random20", 2, "random20"),
    (f"{TRAIN} --split 90/10", 2, "split must be one of standard, tail20,"),
    (f"{TRAIN} --split 0/1/1", 2, "split 0/1/1 has no training part"),
    ("train --corpus text8", 66, "text8: not on this machine, and its SHA-256 is not known; add it"),
    ("corpora add", 2, "NAME"),
    ("train good.txt", 2, "(good.txt); a text is named by --corpus; see `charlm train --help`"),
    ("lr-find good.txt", 2, "(good.txt); a text is named by --corpus"),
    ("corpora remove names", 2, "remove"),
    ("bench gru --corpus nothere.txt --name ../x", 2, "--name '../x': must be the name of one folder"),
    (f"bench gru --corpus nothere.txt --seed {2**64 - 1} --seeds 2", 2, f"below 2^64, got {2**64}"),
    ("export made pipe --force", 74, "pipe: cannot be written: it is not a regular file"),
    ("eval --weights 5", 2, "--weights needs several models"),
    ("train --corpus latin1.txt", 65, "latin1.txt: not UTF-8: byte 0xe4 at offset 1;"),
    ("train --corpus good.txt --corpus latin1.txt", 65, "charlm: latin1.txt: not UTF-8: byte 0xe4 at offset 1;"),
    ("train --corpus human-numbers:0", 65, "from 1 to 10000000"),
    (f"train --corpus {'x' * 300}", 66, "no such file"),
    (f"{TRAIN} --recipe lesson-gro", 66, "did you mean 'lesson-gru'?"),
    (f"{TRAIN} --recipe bad.toml", 65, "recipe bad.toml: "),
    (f"{TRAIN} --recipe unknown.toml", 2, "recipe unknown.toml: no recipe key 'epoch'; did you mean 'epochs'?"),
    (f"{TRAIN} --name made", 74, "checkpoints/made: exists already"),
    (f"{TRAIN} --checkpoints good.txt/x", 74, "Not a directory"),
    ("sample nosuch", 66, "no run or checkpoint 'nosuch'"),
    ("sample made --prime-file /dev/zero", 65, "/dev/zero: longer than 16,777,216 bytes"),
    (f"{TRAIN} --recipe /dev/zero", 65, "recipe /dev/zero: longer than 1,048,576 characters"),
    ("sample mede", 66, "did you mean 'made'?"),
    ("sample garbage.safetensors", 65, "garbage.safetensors: is not a charlm checkpoint"),
    ("sample foreign.safetensors", 65, "foreign.safetensors: is not a charlm checkpoint"),
    ("sample cut.safetensors", 65, "cut.safetensors: is damaged or truncated"),
    ("sample made --temperature -1", 2, "--temperature must be at least 0, got -1"),
    ("sample made --temperature nan", 2, "--temperature must be at least 0 and finite, got nan"),
    ("sample made --temperature inf", 2, "--temperature must be at least 0 and at most 1e+18, got inf"),
    ("sample made --length -1", 2, "--length must be at least 0, got -1"),
    (f"sample made --length {HUGE}", 2, "--length must be at least 0 and at most 2^53, got 1000"),
    ("sample made --top-k 0", 2, "--top-k must be at least 1, got 0"),
    ("sample made --top-p 1.5", 2, "--top-p must be above 0 and at most 1, got 1.5"),
    ("sample made --min-p 0", 2, "--min-p must be above 0 and at most 1, got 0"),
    ("sample made --num 0", 2, "--num"),
    ("sample made --new", 2, "--new needs --lines"),
    ("sample made --lines 3 --json", 2, "--lines prints one item a line; leave out --num, --stop and --json"),
    ("sample made --cache-model all", 2, "'prompt', 'own', 'off'"),
    (f"sample made --seed {HUGE}", 2, "seed"),
    ("sample made --unknown drop", 2, "map"),
    (f"sample made --device {NOT_HERE}", 2, NOT_HERE),
    ("sample made --prime onÉ", 65, "characters outside the model's vocabulary: 'É'; remove them with --unknown skip"),
    ("sample made --prime-file nothere.txt", 66, "nothere.txt"),
    ("sample made --prime-file no-texts", 66, "no-texts"),
    ("sample made --prime-file latin1.txt", 65, "latin1.txt: not UTF-8 at offset 1"),
    ("eval nosuch", 66, "nosuch"),
    ("eval made --part tset", 2, "test"),
    ("eval made --corpus nothere.txt", 66, "nothere.txt"),
    ("eval made --corpus empty.txt", 65, "empty"),
    (
        "eval made --corpus char.txt --part test",
        2,
        "char.txt: 1 characters are too few for a test part; use --part all",
    ),
    ("eval everything --part test", 2, "split all has no test part; name another --part"),
    ("eval everything", 2, "split all has no held-out part"),
    ("eval made everything", 2, "models 1 and 2 differ in: vocabulary"),
    ("eval made nosuch", 66, "nosuch"),
    ("eval made made --part valid", 2, "--weights would be chosen on the characters that are evaluated"),
    ("eval made made --corpus good.txt", 2, "--weights would be chosen on the characters that are evaluated"),
    ("eval made made --weights 1", 2, "weights must be one per model: got 1 for 2 models"),
    ("eval made made --weights a,b", 2, "--weights a,b: give one number a model, separated by commas"),
    ("eval made made --weights -1,2", 2, "weights must be at least 0"),
    ("eval made --weights 1", 2, "--weights needs several models"),
    ("eval made --dynamic adam", 2, "'rms'"),
    ("eval made --rate 1", 2, "--rate needs --dynamic"),
    ("eval made --segment-len 1", 2, "--segment-len needs --dynamic"),
    ("eval made --dynamic mix --decay 0.1", 2, "--decay and --segment-len of --dynamic mix need --rate"),
    ("eval made --dynamic mix --part train", 2, "reads the training part first"),
    ("eval made made --dynamic mix", 2, "--dynamic mix is for one model; name one, or use --dynamic rms"),
    ("eval made --dynamic mix --rate 1e38 --decay 0", 1, "the weights diverged at --rate 1e+38; use a lower --rate"),
    ("sample made --dynamic mix --prime a", 2, "'rms', 'sgd'"),
    ("eval made --dynamic sgd --part all", 2, "--rate and --decay would be chosen on the characters"),
    ("eval made --dynamic sgd --rate -1", 2, "--rate must be at least 0, got -1"),
    ("eval made --dynamic sgd --rate 1e300", 2, "--rate must be at least 0 and at most 1e+38, got 1e+300"),
    ("eval made --dynamic rms --rate nan", 2, "got nan"),
    ("eval made --dynamic sgd --rate 1 --decay 2", 2, "--decay must be at least 0 and at most 1, got 2"),
    ("eval made --dynamic sgd --segment-len 0", 2, "--segment-len must be at least 1 and at most 1,048,576, got 0"),
    ("eval made --dynamic sgd --rate 1e30 --decay 0 --segment-len 9", 1, "the weights diverged at --rate 1e+30"),
    ("eval made --dynamic sgd --rate 1e3 --decay 0", 1, "the weights diverged at --rate 1000; use a lower --rate"),
    ("eval everything --part train --dynamic sgd", 2, "split all has no valid part; give --rate and --decay"),
    ("sample made extra", 66, "no run or checkpoint 'extra'"),
    ("sample made everything", 2, "models 1 and 2 differ in: vocabulary"),
    ("sample everything everything", 2, "split all has no valid part; give --weights"),
    ("sample made made --weights 0,0", 2, "and one above 0"),
    ("sample made --dynamic sgd", 2, "--dynamic updates the weights on the prompt; give --prime"),
    ("info nosuch", 66, "nosuch"),
    ("info garbage.safetensors", 65, "garbage.safetensors"),
    ("compare made nosuch", 66, "no run 'nosuch'"),
    ("compare run --checkpoints spoilt", 65, "run: cannot read its recipe or metrics"),
    ("export made", 2, "PATH"),
    ("export made garbage.safetensors", 74, "garbage.safetensors: exists already; --force replaces it"),
    ("export made good.txt/x", 74, "Not a directory"),
    ("export made good.txt/x --hub", 74, "Not a directory"),
    ("export made plot.pdf", 2, "plot.pdf: ends in .pdf; take .safetensors, .html or .onnx, or --hub for a folder"),
    ("export made page.html --half", 2, "--half is for a checkpoint"),
    ("export made model.onnx --half", 2, "--half is for a checkpoint"),
    ("export made no-texts --hub", 74, "no-texts: exists already; --force replaces it"),
    ("export made good.txt --hub --force", 74, "good.txt: cannot be written: it is not a folder"),
    ("export nosuch x", 66, "nosuch"),
    ("models gruu", 2, "did you mean 'gru'?"),
    ("sample ''", 2, "'[RUN]...': must not be empty"),
    ("info ''", 2, "'[RUN]': must not be empty"),
    (f"{TRAIN} --recipe ''", 2, "'--recipe': must not be empty"),
    (f"{TRAIN} --name ''", 2, "'--name': must not be empty"),
    (f"{TRAIN} --checkpoints ''", 2, "'--checkpoints': must not be empty"),
    ("train --resume ''", 2, "'--resume': must not be empty"),
    ("recipes lesson-gruu", 66, "did you mean 'lesson-gru'?"),
    (f"{FIND} --patience 2", 2, "No such option '--patience'"),
    (f"{FIND} --lowest 2", 2, "--lowest 2.0 must be below --highest 1.0"),
    (f"{FIND} --lowest nan", 2, "--lowest"),
    (f"{FIND} --highest inf", 2, "--highest"),
    (f"{FIND} --n-steps 3", 2, "--n-steps"),
    (f"{FIND} --n-steps 30 --plot good.txt/x.png", 74, "good.txt/x.png: cannot be written"),
    (f"{FIND} --n-steps 30 --plot curve.xyz", 2, "curve.xyz"),
    ("lesson --steps char4", 2, "no step 'char4'; did you mean 'char3'?"),
    ("lesson --steps char3 --corpus nothere.txt", 66, "nothere.txt"),
    ("lesson --quick --steps lstm", 2, "step 'lstm' has no quick version"),
    ("lesson --steps ''", 2, "no step ''; steps: char3, "),
    ("lesson --epochs 0", 2, "--epochs"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with good and bad files and the runs "made" and "everything"."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("no-texts", "checkpoints", "spoilt/run"):
            (folder / name).mkdir(parents=True)
        files = {
            "good.txt": human_numbers("100").encode(),
            "empty.txt": b"",
            "short.txt": b"abc",
            "char.txt": b"o",
            "latin1.txt": b"\n" + "ä".encode("latin-1") * 200,
            "bad.toml": b"epochs = = 1",
            "unknown.toml": b"epoch = 1",
            "garbage.safetensors": bytes(range(256)) * 20,
            "foreign.safetensors": safetensors.torch.save({"w": torch.ones(3)}),
            "spoilt/run/metrics.jsonl": b"{}\n",
            "spoilt/run/recipe.toml": b"model = ",
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
        os.mkfifo(folder / "pipe")
        for line in (f"{TRAIN} --name made --json", f"{TRAIN} --name everything --split all --json"):
            with pytest.raises(SystemExit, match="0"):
                main(shlex.split(line))
        made = folder / "checkpoints" / "made" / "best.safetensors"
        (folder / "cut.safetensors").write_bytes(made.read_bytes()[:-1])
    return folder


@pytest.fixture
def call(home, tmp_path, monkeypatch, capsys):
    """Return a function that runs a command line in the folder, without a network."""
    monkeypatch.chdir(home)
    monkeypatch.delenv("CHARLM_CORPORA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    nowhere = replace(named_texts.TEXTS["nietzsche"], source="https://localhost:1/nietzsche.txt")
    monkeypatch.setitem(named_texts.TEXTS, "nietzsche", nowhere)

    def run(line):
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(line))
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.mark.parametrize(("line", "code", "message"), ERRORS, ids=[line[-60:] or "nothing" for line, _, _ in ERRORS])
def test_an_error_is_one_line_and_an_exit_code(line, code, message, call, home):
    before = set(home.rglob("*"))
    got, out, err = call(line)
    assert (got, out) == (code, "")
    assert err.startswith("charlm: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    assert message in err
    assert "Traceback" not in err and len(err) < 500
    assert set(home.rglob("*")) == before


def test_debug_shows_the_traceback(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(CharlmError):
        main(["sample", "--debug", "nosuch"])


@pytest.mark.parametrize(
    ("options", "message", "is_kept"),
    [
        ("--learning-rate 1000", "bits per character, worse than a uniform guess with 4.", True),
        ("--learning-rate 1e30", "the model's logits are not finite", True),
        ("--learning-rate 1000 --split all", "bits per character, worse than a uniform guess with 4.", True),
        ("--learning-rate 1e30 --optimizer sgd --weight-decay 1e10", "the loss is not finite after step", False),
    ],
)
def test_a_diverged_training_names_the_remedy_and_keeps_its_checkpoint(options, message, is_kept, call, home):
    name = f"diverged-{abs(hash(options))}"
    code, out, err = call(f"{TRAIN} {options} --schedule constant --epochs 3 --name {name}")
    assert (code, out) == (1, "")
    *_, line = err.splitlines()
    assert line.startswith("charlm: ") and message in line and "lower --learning-rate" in line
    assert any((home / "checkpoints" / name).glob("*.safetensors")) == is_kept


@pytest.mark.parametrize("unknown", ["skip", "map"])
def test_unknown_characters_are_skipped_or_mapped(unknown, call):
    code, out, err = call(f"sample made --prime onÉ --unknown {unknown} --length 5 --seed 1")
    assert (code, err) == (0, "")
    assert len(out) == 3 + 5 + 1


def test_compare_without_runs_is_not_an_error(call):
    code, out, err = call("compare --checkpoints nothing")
    assert (code, out) == (0, "")
    assert err == "charlm: no runs in nothing; `charlm train` creates one\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(call, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = call(f"{TRAIN} --checkpoints {tmp_path}/runs")
    tmp_path.chmod(0o700)
    assert code == 74 and "Permission denied" in err


LAUNCHER = [("WORLD_SIZE", "x"), ("WORLD_SIZE", "0"), ("WORLD_SIZE", "9" * 5000), ("RANK", "2"), ("RANK", "-1")]
LAUNCHER += [("LOCAL_RANK", ""), ("MASTER_PORT", "1e3"), ("MASTER_PORT", "65536")]


@pytest.mark.parametrize(("name", "value"), LAUNCHER, ids=[f"{name}={value[:9]}" for name, value in LAUNCHER])
def test_a_launcher_variable_that_cannot_be_is_named(name, value, call, monkeypatch):
    launched = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"} | {name: value}
    for key, text in launched.items():
        monkeypatch.setenv(key, text)
    for line in (TRAIN, "sample made"):
        code, out, err = call(line)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"charlm: environment variable {name} is '{value[:40]}', not a number from")

"""`charlm train --from`, and architectures from a file."""

import json
import tomllib
from pathlib import Path

import pytest
import torch

import charlm
from charlm.data.generated_texts import human_numbers
from charlm.models import MODELS
from charlm.storage import checkpoint

TRAIN = "train --corpus text.txt --no-samples --bptt 16 --batch-size 8 --epochs 1"
RUNS = {
    "gru": "--model gru --n-embed 8 --n-hidden 16 --clip 3",
    "own": "--model mine.py:MyRNN -o n_hidden=12",
}
SOURCE = '''"""An RNN of my own."""
from torch import nn
from charlm.models import CharModel

class MyRNN(CharModel):
    def __init__(self, vocab_size, n_hidden=8):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, n_hidden)
        self.layers = nn.RNN(n_hidden, n_hidden, batch_first=True)
        self.head = nn.Linear(n_hidden, vocab_size)

    def features(self, chars, state=None):
        return self.layers(self.embed(chars), state)
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory, exit_code):
    """Return a folder with a text, a model's file, and the runs."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(human_numbers("200"))
        Path("mine.py").write_text(SOURCE)
        known = set(MODELS)
        for name, options in RUNS.items():
            assert exit_code(f"{TRAIN} {options} --name {name}") == 0
    yield folder
    for name in MODELS.keys() - known:  # other tests list the models of the package
        del MODELS[name]


@pytest.fixture(autouse=True)
def nothing_imported(monkeypatch):
    """Leave no class of a file in MODELS from an earlier command."""
    for name in [name for name in MODELS if ":" in name]:
        monkeypatch.delitem(MODELS, name)


def test_training_on_inherits_the_recipe_and_begins_with_the_weights(call):
    call("train --from gru --name more --no-samples --learning-rate 1e-9 --epochs 1")
    recipe = tomllib.loads(Path("checkpoints/more/recipe.toml").read_text())
    assert recipe["init_from"] == "checkpoints/gru/best.safetensors"
    assert (recipe["clip"], recipe["corpus"], recipe["options"]["n_hidden"]) == (3.0, ["text.txt"], 16)
    before, _ = checkpoint.load(Path("checkpoints/gru/best.safetensors"))
    after, _ = checkpoint.load(Path("checkpoints/more/best.safetensors"))
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(old, new, atol=1e-6, rtol=0)


def test_another_text_with_another_vocabulary_is_named_on_stderr(call):
    Path("other.txt").write_text("THE QUICK fox jumped over it.\n" * 40)
    out, err = call("train --from gru --corpus other.txt --name more --json --no-samples")
    assert "begins with the weights of checkpoints/gru/best.safetensors; new characters" in err
    assert "characters it had and this text lacks: -" in err
    assert json.loads(out)["test_nats"] > 0


def test_the_model_in_the_box_trains_on_with_frozen_groups_that_info_shows(call):
    options = "--freeze embed,layers.0 --unfreeze-epochs 0.5 --group-rates 0.01,0.1,1 --bptt 64 --epochs 1"
    call(f"train --from nietzsche --corpus text.txt --name boxed --no-samples {options}")
    out, _ = call("info boxed")
    assert "begun with: nietzsche\nfrozen:     embed, layers.0\n" in out
    assert "unfreezing: one layer group every 0.5 epochs, from the head\n" in out
    assert "rates:      embed x0.01, layers.0 x0.1, head x1\n" in out
    box, boxed = charlm.load("nietzsche").model, charlm.load("boxed").model
    assert torch.equal(box.layers.weight_hh_l0, boxed.layers.weight_hh_l0)


def test_an_interrupted_run_resumes_without_the_weights_that_it_began_with(call):
    call("train --from gru --name more --no-samples --freeze layers --epochs 2 --save-steps 3")
    whole = checkpoint.read(Path("checkpoints/more/last.safetensors"))[1]
    Path("checkpoints/gru/best.safetensors").unlink()
    metrics = Path("checkpoints/more/metrics.jsonl")
    metrics.write_text("".join(line + "\n" for line in metrics.read_text().splitlines() if '"result"' not in line))
    call("train --resume more --no-samples")
    again = checkpoint.read(Path("checkpoints/more/last.safetensors"))[1]
    for name in (name for name in whole if "/" not in name):
        assert torch.equal(whole[name], again[name])


def test_a_run_that_keeps_counts_says_so_and_info_shows_it(call):
    call(f"{TRAIN} --model lstm-ngram --n-hidden 8 --n-embed 4 -o order=3 --name experts")
    Path("other.txt").write_text("The quick fox jumped over one dog.\n" * 40)
    _, err = call("train --from experts --corpus other.txt --keep-counts --name more --no-samples --epochs 1")
    assert "begins with the weights of checkpoints/experts/best.safetensors; its n-gram counts are kept" in err
    out, _ = call("info more")
    assert "counts:     of the text, and kept of: text.txt (" in out
    assert not Path("checkpoints/more/start.safetensors").exists()


def test_a_model_that_only_counts_takes_the_recipe_of_another_and_counts_anew(call):
    call(f"{TRAIN} --model ngram -o order=3 --name counted")
    Path("other.txt").write_text("the quick fox jumped over one dog\n" * 40)
    _, err = call("train --from counted --corpus other.txt --name more")
    assert "begins with the recipe of checkpoints/counted/best.safetensors; its n-gram counts are not used, this" in err
    assert "(--keep-counts keeps them)" in err and charlm.load("more").metadata.options["order"] == 3


def test_another_size_is_refused_in_one_line(call, exit_code, capsys):
    assert exit_code("train --from gru --n-hidden 32 --name more") == 2
    err = capsys.readouterr().err
    assert "leave out the options that change sizes" in err
    assert not Path("checkpoints/more").exists()


def test_a_list_that_is_no_list_of_numbers_is_refused(home, exit_code, capsys):
    assert exit_code("train --from gru --group-rates a,b") == 2
    assert "--group-rates must be a number, got 'a'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["sample", "eval", "info", "export", "train --resume", "train --from", "compress text.txt --model"]
)
def test_a_checkpoint_imports_no_code_by_itself(command, home, exit_code, capsys):
    rest = " out.safetensors" if command == "export" else ""
    Path("mine.py").write_text("raise SystemExit(99)")
    if command == "train --resume":
        metrics = Path("checkpoints/own/metrics.jsonl")
        metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    assert exit_code(f"{command} own{rest}") == 2
    assert "mine.py:MyRNN is code outside the package, not imported by itself; give --model mine.py:MyRNN" in (
        capsys.readouterr().err
    )


def test_a_model_of_a_file_is_used_when_its_file_is_named(call):
    own = "--model mine.py:MyRNN"
    assert len(call(f"sample own {own} --length 20 --seed 1")[0]) > 10
    assert "bits" in call(f"eval own {own}")[0]
    assert "model:      mine.py:MyRNN" in call(f"info own {own}")[0]
    assert "An RNN of my own." in call("models mine.py:MyRNN")[0]
    call(f"export own out.safetensors {own}")
    call(f"export own out.onnx {own}")
    call(f"export own hub --hub {own}")
    assert f'charlm sample hub --prime "text" {own}' in Path("hub/README.md").read_text()
    call(f"compress text.txt --model own {own} -o text.clm")
    call(f"decompress text.clm {own} -o back.txt")
    assert Path("back.txt").read_bytes() == Path("text.txt").read_bytes()
    call(f"train --from own {own} --name more --no-samples")
    assert charlm.load("more", model="mine.py:MyRNN").sample(length=5, seed=1)


def test_a_run_of_a_file_is_named_after_its_class(call):
    assert json.loads(call(f"{TRAIN} --model mine.py:MyRNN --json")[0])["run"] == "checkpoints/MyRNN"


def test_only_code_is_given_with_model_to_a_trained_model(home, exit_code, capsys):
    assert exit_code("sample gru --model gru") == 2
    assert "'gru' is not FILE.py:CLASS; models of the package need no --model" in capsys.readouterr().err

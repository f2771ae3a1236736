"""Checkpoints: a file read equals what was written; files of format 1 load."""

import ast
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

import charlm
from charlm.data.vocab import Vocab
from charlm.errors import DataError, InputNotFoundError, OutputError
from charlm.models import MODELS, CountingModel, build, options_of
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata

SYMBOLS = "\n abcdé\U0001f600"
SMALL = {"n_embed": 4, "n_hidden": 6, "order": 3, "folded_words": True}
VARIANTS = [(name, {key: SMALL[key] for key in SMALL.keys() & options_of(name)}) for name in MODELS] + [
    ("lstm", {"n_embed": 4, "n_hidden": 6, "n_layers": 2, "dropout": 0.5, "tied": True}),
    ("gru", {"n_embed": 6, "n_hidden": 6, "tied": True}),
    ("rnn", {"n_embed": 4, "n_hidden": 6, "init": "identity"}),
]


def make(name="gru", options=None):
    """Return a model and its metadata."""
    options = {"n_embed": 4, "n_hidden": 6} if options is None else options
    vocab = Vocab(map(ord, SYMBOLS))
    torch.manual_seed(1)
    metadata = Metadata(
        model=name,
        options=options,
        vocab_size=len(vocab),
        symbols=vocab.codepoints.tolist(),
        is_bytes=False,
        n_context=3 if name == "char3" else None,
        recipe=Recipe(model=name, corpus=("x",), split="standard", learning_rate=1e-3, options=options).to_dict(),
        corpus={"name": 'a "quoted" \\ näme\n', "sha256": "0" * 64, "n_chars": 1000},
        counters={"epoch": 2, "step": 10, "n_chars": 900, "seconds": 1.5},
        result={"valid_nats": 1.25, "test_nats": 0.1 + 0.2, "interrupted": False},
        versions={"charlm": charlm.__version__, "torch": torch.__version__},
    )
    model = build(name, len(vocab), **options)
    if isinstance(model, CountingModel):
        model.fit_counts(torch.randint(len(vocab), (100,)))
    return model, metadata


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_weights_and_metadata_are_unchanged_by_saving_and_loading(name, options, tmp_path):
    model, metadata = make(name, options)
    checkpoint.save(tmp_path / "x.safetensors", model, metadata)
    loaded, read = checkpoint.load(tmp_path / "x.safetensors")
    assert read == metadata
    assert read.vocab == Vocab(map(ord, SYMBOLS))
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], weight)
    chars = torch.randint(len(SYMBOLS), (2, 3))
    assert torch.equal(loaded(chars)[0], model.eval()(chars)[0])


def test_a_tied_matrix_is_stored_once_and_tied_after_loading(tmp_path):
    model, metadata = make("gru", {"n_embed": 6, "n_hidden": 6, "tied": True})
    checkpoint.save(tmp_path / "x.safetensors", model, metadata)
    assert sum(weight.numel() for weight in checkpoint.read(tmp_path / "x.safetensors")[1].values()) == sum(
        parameter.numel() for parameter in model.parameters()
    )
    loaded, _ = checkpoint.load(tmp_path / "x.safetensors")
    with torch.no_grad():
        loaded.embed.weight.zero_()
    assert not list(loaded.head.parameters())[0].any()


def test_half_precision_rounds_the_weights_and_is_loaded_as_float32(tmp_path):
    model, metadata = make("gru", {"n_embed": 16, "n_hidden": 32})
    for name, dtype in (("full", None), ("half", torch.float16)):
        checkpoint.save(tmp_path / name, model, metadata, dtype)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "full").stat().st_size
    loaded, _ = checkpoint.load(tmp_path / "half")
    for key, weight in model.state_dict().items():
        assert loaded.state_dict()[key].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[key], weight.half().float())
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}


def test_weights_too_large_for_half_precision_are_not_written(tmp_path):
    model, metadata = make()
    with torch.no_grad():
        model.embed.weight[0, 0] = 1e6
    with pytest.raises(DataError, match="not finite in float16"):
        checkpoint.save(tmp_path / "x", model, metadata, torch.float16)
    assert not list(tmp_path.iterdir())


def test_losses_of_a_diverged_model_that_are_not_finite_are_left_out(tmp_path):
    model, metadata = make()
    metadata.result |= {"test_nats": math.nan, "valid_nats": math.inf}
    checkpoint.save(tmp_path / "x", model, metadata)
    assert checkpoint.load(tmp_path / "x")[1].result == {"interrupted": False}


def test_equal_content_gives_equal_files(tmp_path):
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, *make())
    checkpoint.save(tmp_path / "c", *checkpoint.load(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_other_tools_can_read_the_weights(tmp_path):
    model, metadata = make()
    checkpoint.save(tmp_path / "x.safetensors", model, metadata)
    weights = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert weights.keys() == dict(model.named_parameters()).keys()


def test_a_missing_file_or_a_folder_is_an_input_not_found_error(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputNotFoundError, match="cannot be read"):
            checkpoint.load(path)


def test_saving_replaces_the_file_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    checkpoint.save(path, *make())
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.load(path)


def test_an_unwritable_path_is_reported_and_leaves_no_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for path in (tmp_path / "none" / "x", tmp_path / "file" / "x", tmp_path / "folder"):
        with pytest.raises(OutputError, match="cannot be written"):
            checkpoint.save(path, *make())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_without_write_permission_is_reported(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        checkpoint.save(tmp_path / "x", *make())
    tmp_path.chmod(0o700)


def test_loading_does_not_advance_the_random_generator(tmp_path):
    checkpoint.save(tmp_path / "x", *make())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checkpoint.load(tmp_path / "x")
    assert torch.equal(torch.rand(3), expected)


def metadata_of(data):
    """Return the JSON object in the bytes of a checkpoint."""
    n_header = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + n_header])["__metadata__"]["charlm"])


def test_the_metadata_are_json_in_the_header(tmp_path):
    checkpoint.save(tmp_path / "x", *make("char3"))
    stored = metadata_of((tmp_path / "x").read_bytes())
    assert stored["format"] == checkpoint.FORMAT
    assert stored["model"] == "char3"
    assert "".join(map(chr, stored["symbols"])) == SYMBOLS


def write_format_1(path, old_weights, old_options):
    """Rewrite a checkpoint as one of format 1, given the old names of weights and options, {new: old}."""
    stored = metadata_of(path.read_bytes()) | {"sha256": "0" * 64, "format": 1}
    stored["options"] = {old_options.get(key, key): value for key, value in stored["options"].items()}
    stored["recipe"] |= {"accumulate": 1, "options": stored["options"]}
    weights = {}
    for name, weight in safetensors.torch.load_file(path).items():
        for new, old in old_weights.items():
            name = name.replace(new, old)
        weights[name] = weight
    text = json.dumps(stored, separators=(",", ":"))
    data = safetensors.torch.save(weights, {"charlm": text})
    before, after = data.split(b"0" * 64, 1)
    path.write_bytes(before + hashlib.sha256(data).hexdigest().encode() + after)


@pytest.mark.parametrize(
    ("name", "options", "old_weights", "old_options"),
    [
        ("gru", {"n_embed": 4, "n_hidden": 6}, {}, {}),
        (
            "transformer",
            {"n_embed": 8, "window_size": 5},
            {"qkv_proj": "to_heads", "out_proj": "from_heads"},
            {"window_size": "n_memory"},
        ),
        ("ngram", {"order": 2}, {"counts.": "head."}, {}),
        ("word-ngram", {"order": 2}, {"counts.char_classes": "head.kinds", "counts.": "head."}, {}),
        (
            "lstm-ngram",
            {"n_embed": 4, "n_hidden": 6, "order": 2, "cache_model": False},
            {"char_classes": "kinds", "counts.": "counts.head.", "expert_weights": "trust", "base_head": "own"},
            {"cache_model": "recent"},
        ),
    ],
)
def test_a_file_of_format_1_loads(name, options, old_weights, old_options, tmp_path):
    model, metadata = make(name, options)
    checkpoint.save(tmp_path / "x", model, metadata)
    write_format_1(tmp_path / "x", old_weights, old_options)
    loaded, read = checkpoint.load(tmp_path / "x")
    assert read == metadata
    chars = torch.randint(len(SYMBOLS), (2, 9))
    assert torch.equal(loaded(chars)[0], model.eval()(chars)[0])


def has_no_pickle(node):
    """Return whether a node is a call with the argument `allow_pickle=False`."""
    return isinstance(node, ast.Call) and any(
        key.arg == "allow_pickle" and isinstance(key.value, ast.Constant) and key.value.value is False
        for key in node.keywords
    )


def test_the_package_reads_no_pickle():
    for path in Path(charlm.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        safe = [node.func for node in nodes if has_no_pickle(node)]
        for node in nodes:
            match node:
                case ast.Import(names):
                    imported = {alias.name.split(".")[0] for alias in names}
                case ast.ImportFrom(module=module):
                    imported = {str(module).split(".")[0]}
                case ast.Attribute(value=ast.Name("torch" | "np" | "numpy"), attr="load" | "save"):
                    imported = set() if node in safe else {"torch.load"}
                case _:
                    continue
            forbidden = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle", "torch.load"}
            assert not imported & forbidden, f"{path}:{node.lineno}"

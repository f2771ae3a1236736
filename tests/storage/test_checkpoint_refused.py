"""Damaged, truncated, foreign, newer and inconsistent checkpoints raise CheckpointError."""

import hashlib
import json
import math
from dataclasses import asdict, fields

import pytest
import safetensors.torch
import torch

from charlm import api
from charlm.errors import CheckpointError
from charlm.generation.numpy_generator import load_numpy
from charlm.recipe import Recipe
from charlm.storage import checkpoint

TINY = {"n_embed": 2, "n_hidden": 3}
N_SYMBOLS = 18


@pytest.fixture(scope="module")
def trained():
    """Return a trained model of `N_SYMBOLS` characters."""
    model = api.train("human-numbers:30", model="gru", options=TINY, batch_size=2, bptt=8, epochs=1)
    assert len(model.metadata.symbols) == N_SYMBOLS
    return model


@pytest.fixture(scope="module")
def good(trained, tmp_path_factory):
    """Return the bytes of a small valid checkpoint."""
    path = tmp_path_factory.mktemp("good") / "x.safetensors"
    trained.save(path)
    return path.read_bytes()


@pytest.fixture
def forge(trained):
    """Return a function that makes a file with a correct hash and changed metadata or weights."""

    def make(changes, change_text=str, change_weights=len):
        weights = {name: parameter.detach() for name, parameter in trained.model.named_parameters()}
        change_weights(weights)
        metadata = {"sha256": "0" * 64, "format": checkpoint.FORMAT} | asdict(trained.metadata) | changes
        data = safetensors.torch.save(weights, {"charlm": change_text(json.dumps(metadata, separators=(",", ":")))})
        before, after = data.split(b"0" * 64, 1)
        return before + hashlib.sha256(data).hexdigest().encode() + after

    return make


def refuse(path, data):
    """Assert that a file is refused with PyTorch and without, and return the message."""
    path.write_bytes(data)
    assert load_numpy(path) is None
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def is_refused(data):
    try:
        checkpoint.parse(data, "x")
        return False
    except CheckpointError as error:
        return str(error).startswith("x: is ")


def test_every_flipped_bit_is_detected(good):
    assert not is_refused(good)
    data = bytearray(good)
    for position in range(len(good)):
        for bit in range(8):
            data[position] ^= 1 << bit
            assert is_refused(data), (position, bit)
            data[position] ^= 1 << bit


def test_every_truncation_or_extension_is_detected(good):
    assert all(is_refused(good[:length]) for length in range(len(good)))
    assert all(is_refused(good + extra) for extra in [bytes([i]) for i in range(256)] + [good, good[:8], bytes(4096)])


def test_a_damaged_file_is_named(good, tmp_path):
    message = refuse(tmp_path / "x", good[:-1])
    assert message.endswith("x: is damaged or truncated (wrong SHA-256); use another copy")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 5000, b"PK\x03\x04" * 100, b"<html>" * 100, safetensors.torch.save({"w": torch.ones(3)})]
    + [safetensors.torch.save({"w": torch.ones(3)}, {"format": "pt"})]
    + [safetensors.torch.save({"w": torch.ones(3)}, {"charlm": "{}"})],
    ids=["empty", "zeros", "zip", "web page", "without metadata", "other metadata", "empty metadata"],
)
def test_a_foreign_file_is_refused(data, tmp_path):
    refuse(tmp_path / "x", data)


def test_a_valid_file_made_by_other_means_is_read(trained, forge, tmp_path):
    (tmp_path / "x").write_bytes(forge({}))
    assert checkpoint.load(tmp_path / "x")[1] == trained.metadata


def test_a_newer_format_asks_for_an_upgrade(forge, tmp_path):
    message = refuse(tmp_path / "x", forge({"format": checkpoint.FORMAT + 1}))
    assert f"format {checkpoint.FORMAT + 1}" in message and "upgrade" in message


@pytest.mark.parametrize("key", [field.name for field in fields(checkpoint.Metadata)])
def test_metadata_of_the_wrong_type_are_refused(key, forge, tmp_path):
    refuse(tmp_path / "x", forge({key: [{}]}))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": None},
        {"architecture": "gru"},
        {"model": "transformer"},
        {"options": TINY | {"n_hidden": 4}},
        {"options": TINY | {"tied": True}},
        {"options": TINY | {"n_heads": 2}},
        {"options": TINY | {"n_hidden": "3"}},
        {"vocab_size": 1000},
        {"vocab_size": "19"},
        {"vocab_size": N_SYMBOLS + 2, "symbols": [*range(1, N_SYMBOLS + 2)]},
        {"symbols": None},
        {"symbols": [1, 2, 3]},
        {"symbols": [*range(1, N_SYMBOLS), 1]},
        {"symbols": [*range(1, N_SYMBOLS), 0x110000]},
        {"symbols": [*range(1, N_SYMBOLS), -1]},
        {"symbols": [*range(1, N_SYMBOLS), 1.5]},
        {"symbols": [*range(1, N_SYMBOLS), 300], "is_bytes": True},
        {"n_context": 0},
        {"n_context": 1 << 40},
        {"n_context": "three"},
        {"n_context": 1 << 20},
        {"n_context": 4097, "recipe": {"model": "gru", "feed": "windows", "n_context": 4097}},
        {"n_context": 8, "recipe": {"model": "gru", "feed": "windows", "n_context": 9}},
        {"n_context": 8, "recipe": {"model": "gru", "feed": "stream"}},
        {"vocab_size": True},
        {"format": True},
        {"options": TINY | {"n_layers": 100_000}},
        {"options": TINY | {"n_layers": -1}},
        {"options": TINY | {"dropout": float("nan")}},
        {"model": "char3", "n_context": 8},
        {"recipe": {"model": "lstm"}},
        {"recipe": {"seed": 10**400}},
        {"recipe": {"learning_rate": "x"}},
        {"recipe": {"learning_rate": float("inf")}},
        {"recipe": {"later_key": float("nan")}},
        {"corpus": {"n_chars": "x"}},
        {"corpus": {"n_chars": -1}},
        {"corpus": {"n_chars": 10**400}},
        {"corpus": {"name": "\ud800"}},
        {"corpus": {"name": "x" * 100_000}},
        {"corpus": {"sha256": "z" * 64}},
        {"corpus": {"counts_kept": [{"name": "x"}]}},
        {"counters": {"epoch": "x"}},
        {"counters": {"n_chars": None}},
        {"counters": {"seconds": float("nan")}},
        {"result": {"valid_nats": "x"}},
        {"result": {"valid_nats": -1}},
        {"result": {"valid_nats": 1e300}},
        {"result": {"test_nats": 10**400}},
        {"result": {"valid_accuracy": 2}},
        {"result": {"valid_chars": 5}},
        {"result": {"later": [{"key": float("-inf")}]}},
        {"result": {"\udfff": 1}},
        {"result": {str(i): i for i in range(20_000)}},
        {"versions": {"charlm": 1}},
    ],
    ids=str,
)
def test_inconsistent_metadata_are_refused(changes, forge, tmp_path):
    refuse(tmp_path / "x", forge(changes))


@pytest.mark.parametrize(
    "changes", [{"result": {"valid_nats": "x"}}, {"recipe": {"model": "gru", "group_rates": [1.0] * 9}}], ids=str
)
@pytest.mark.parametrize("option", ["", " --json"])
def test_info_refuses_inconsistent_metadata_before_it_prints_anything(
    changes, option, forge, tmp_path, exit_code, capsys
):
    (tmp_path / "x").write_bytes(forge(changes))
    assert exit_code(f"info {tmp_path / 'x'}{option}") == 65
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"charlm: {tmp_path / 'x'}: is not a valid charlm checkpoint: ") and err.count("\n") == 1


def test_missing_fields_have_the_defaults_of_a_recipe(forge, tmp_path):
    (tmp_path / "x").write_bytes(forge({"recipe": {}, "corpus": {}, "resume": {}}))
    metadata = checkpoint.load(tmp_path / "x")[1]
    assert metadata.recipe == Recipe(model="gru", split="standard", options=metadata.options).to_dict()
    assert metadata.corpus == {"name": "?", "sha256": "", "n_chars": 0}


def test_keys_of_a_later_version_are_kept(forge, tmp_path):
    later = {"recipe": {"later_key": [1, "x"]}, "result": {"later_key": 2.5}, "corpus": {"later_key": None}}
    (tmp_path / "x").write_bytes(forge(later))
    metadata = checkpoint.load(tmp_path / "x")[1]
    assert {key: {"later_key": getattr(metadata, key)["later_key"]} for key in later} == later


def test_a_header_of_many_lists_is_refused_before_it_is_parsed(forge, tmp_path):
    for n in (200_000, 16_000_000):  # 1 MB and 80 MB
        nested = "[" + ",".join(["[[]]"] * n) + "]"
        message = refuse(tmp_path / "x", forge({"result": "@"}, lambda text, n=nested: text.replace('"@"', n)))
        assert "header" in message


def test_many_empty_tensors_are_refused(forge, tmp_path):
    for n in (30, 100_000):
        empty = {f"layers.weight_ih_l{i}": torch.empty(0) for i in range(1, n)}
        options = {"options": TINY | {"n_layers": n}}
        refuse(tmp_path / "x", forge(options, change_weights=lambda weights, empty=empty: weights.update(empty)))


def test_deeply_nested_or_incomplete_json_is_refused(forge, tmp_path):
    refuse(tmp_path / "x", forge({"result": "@"}, lambda text: text.replace('"@"', "[" * 100_000 + "]" * 100_000)))
    refuse(tmp_path / "x", forge({}, lambda text: text[:-1]))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda weights: weights.pop("embed.weight"), "embed.weight"),
        (lambda weights: weights.update(bonus=torch.zeros(2)), "bonus"),
        (lambda weights: weights.update({"embed.weight": torch.zeros(19, 5)}), "(19, 5)"),
        (lambda weights: weights.clear(), "missing"),
        (lambda weights: weights.update({"embed.weight": torch.full((19, 2), math.nan)}), "not finite"),
        (lambda weights: weights.update({"embed.weight": torch.full((19, 2), math.inf)}), "not finite"),
        (lambda weights: weights.update({"embed.weight": torch.zeros(19, 2, dtype=torch.int64)}), "int64"),
    ],
    ids=["one missing", "one in excess", "another shape", "none", "NaN", "infinite", "integers"],
)
def test_weights_that_do_not_match_the_architecture_are_refused(change, what, forge, tmp_path):
    assert what in refuse(tmp_path / "x", forge({}, change_weights=change))

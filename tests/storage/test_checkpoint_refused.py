"""Damaged, truncated, foreign, newer and inconsistent checkpoints raise CheckpointError."""

import hashlib
import json
from dataclasses import asdict, fields

import pytest
import safetensors.torch
import torch

from charlm import api
from charlm.errors import CheckpointError
from charlm.generation import generator
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
    assert generator.load_numpy(path) is None
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
    ],
    ids=str,
)
def test_inconsistent_metadata_are_refused(changes, forge, tmp_path):
    refuse(tmp_path / "x", forge(changes))


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
    ],
    ids=["one missing", "one in excess", "another shape", "none"],
)
def test_weights_that_do_not_match_the_architecture_are_refused(change, what, forge, tmp_path):
    assert what in refuse(tmp_path / "x", forge({}, change_weights=change))

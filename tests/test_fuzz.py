"""Checkpoint files changed by accident or on purpose are refused by one kind of error, soon and in little memory."""

import hashlib
import json
import random
import resource
import time

import pytest
import safetensors.torch
import torch

from charlm import api
from charlm.errors import CheckpointError
from charlm.storage import checkpoint

N_BLIND, N_SEALED, N_FORGED = 90_000, 5_000, 5_000
JUNK = [None, True, False, -1, 0, 1, 7, 1.5, 1e308, float("nan"), 2**31, 2**63, 10**30, "", "x", "gru", "ngram", [], {}]
JUNK += [[0], {"a": 1}, [[[]]], "\ud800", "\0", {"tensor": "resume/0"}, {"dict": [[1, 2]]}, 4096, 70_000, -(2**63)]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return the bytes of a small checkpoint that a training could go on from."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    options = {"n_embed": 2, "n_hidden": 3}
    api.train("human-numbers:30", folder=folder, model="gru", options=options, batch_size=2, bptt=8, epochs=1)
    return (folder / "last.safetensors").read_bytes()


@pytest.fixture
def bounded():
    """Let no test of this file take a second for one file, or 300 MB more than there were."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.fixture(scope="module")
def seal(good):
    """Return a function that puts the hash that belongs to a file's bytes into them."""
    at = good.index(b"sha256") + len(b'sha256\\":\\"')
    assert len(bytes.fromhex(good[at : at + 64].decode())) == 32

    def put(data):
        data = bytearray(data)
        if len(data) >= at + 64:
            data[at : at + 64] = b"0" * 64
            data[at : at + 64] = hashlib.sha256(data).hexdigest().encode()
        return bytes(data)

    assert put(good) == good
    return put


def accident(data, chance):
    """Return bytes with one to four accidents."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) or 1)
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randint(1, 64)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 64))
            case 3:
                data[at : at + 8] = chance.choice([b"\0" * 8, b"\xff" * 8, b"9" * 8, b"-1e99999", b'[[[[{"a"'])
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[chance.randrange(len(data) or 1) :][: chance.randint(1, 200)]
    return bytes(data)


def tampered(tree, chance):
    """Change one place of a tree of JSON, anywhere in it."""
    if not isinstance(tree, (dict, list)) or not tree or chance.random() < 0.15:
        return chance.choice(JUNK)
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = chance.choice(keys)
    if chance.random() < 0.05:
        if isinstance(tree, dict):
            return {k: v for k, v in tree.items() if k != key} | ({"extra": 1} if chance.random() < 0.5 else {})
        return tree[:key] + tree[key + 1 :]
    replace = tampered(tree[key], chance)
    return tree | {key: replace} if isinstance(tree, dict) else [*tree[:key], replace, *tree[key + 1 :]]


def other_weights(weights, chance):
    """Return weights of which one is missing, too many, or of another shape or type."""
    name = chance.choice(list(weights))
    new = chance.choice(
        [
            None,
            torch.zeros(0),
            torch.zeros(()),
            torch.zeros(1, 0, 3),
            weights[name].to(torch.int64),
            weights[name].to(torch.bfloat16),
            weights[name][None],
            torch.full_like(weights[name], float("nan") if weights[name].is_floating_point() else 1),
        ]
    )
    rest = {key: weight for key, weight in weights.items() if key != name}
    return rest if new is None else rest | {name if chance.random() < 0.7 else "more": new}


def read_in_time(path, data):
    """Load a file and return whether it was taken; nothing but CheckpointError may come of it, and soon."""
    path.write_bytes(data)
    since = time.process_time()
    try:
        checkpoint.load(path)
        return True
    except CheckpointError as error:
        assert "\n" not in str(error).strip()
        return False
    finally:
        assert time.process_time() - since < 2, data[:2000]


@pytest.mark.parametrize("n", [N_BLIND, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_no_accident_is_taken_for_a_checkpoint(good, bounded, n):
    chance = random.Random(1)
    for _ in range(n):
        data = accident(good, chance)
        if data != good:
            with pytest.raises(CheckpointError):
                checkpoint.parse(data, "x")


def test_an_accident_under_the_right_hash_is_one_kind_of_error(good, seal, bounded, tmp_path):
    chance = random.Random(2)
    n_taken = sum(read_in_time(tmp_path / "x", seal(accident(good, chance))) for _ in range(N_SEALED))
    assert 0 < n_taken < N_SEALED / 2  # a changed weight alone cannot be told


def test_a_forged_description_or_other_weights_are_one_kind_of_error_or_harmless(good, seal, bounded, tmp_path):
    chance = random.Random(3)
    n_header = int.from_bytes(good[:8], "little")
    metadata = json.loads(json.loads(good[8 : 8 + n_header])["__metadata__"]["charlm"])
    tensors = safetensors.torch.load(good)
    n_taken = 0
    for _ in range(N_FORGED):
        told, weights = metadata, tensors
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 0.8:
                told = (
                    metadata
                    | {"sha256": "0" * 64}
                    | (forged if isinstance(forged := tampered(told, chance), dict) else {})
                )
            else:
                weights = other_weights(weights, chance) if weights else tensors
        text = json.dumps(told, separators=(",", ":"))
        n_taken += read_in_time(tmp_path / "x", seal(safetensors.torch.save(weights, {"charlm": text})))
    assert 0 < n_taken < N_FORGED / 2

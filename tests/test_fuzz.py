"""Fuzzing of checkpoint files: damaged or forged ones raise CheckpointError, in little time and memory."""

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

N_DAMAGED, N_REHASHED, N_FORGED = 90_000, 5_000, 2_500
JUNK = [None, True, False, -1, 0, 1, 7, 1.5, 1e308, float("nan"), 2**31, 2**63, 10**30, "", "x", "gru", "ngram", [], {}]
JUNK += [[0], {"a": 1}, [[[]]], "\ud800", "\0", {"tensor": "resume/0"}, {"dict": [[1, 2]]}, 4096, 70_000, -(2**63)]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return the bytes of a small checkpoint from which a training can resume."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    options = {"n_embed": 2, "n_hidden": 3}
    api.train("human-numbers:30", folder=folder, model="gru", options=options, batch_size=2, bptt=8, epochs=1)
    return (folder / "last.safetensors").read_bytes()


@pytest.fixture
def bounded():
    """Fail if the test needs more than 300 MB of additional memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.fixture(scope="module")
def rehash(good):
    """Return a function that replaces the SHA-256 in a file's bytes by the correct one."""
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


def damage(data, rng):
    """Return bytes with one to four random changes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) or 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randint(1, 64)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 64))
            case 3:
                data[at : at + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, b"9" * 8, b"-1e99999", b'[[[[{"a"'])
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[rng.randrange(len(data) or 1) :][: rng.randint(1, 200)]
    return bytes(data)


def forge(tree, rng):
    """Return a JSON tree with one random node replaced or removed."""
    if not isinstance(tree, (dict, list)) or not tree or rng.random() < 0.15:
        return rng.choice(JUNK)
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = rng.choice(keys)
    if rng.random() < 0.05:
        if isinstance(tree, dict):
            return {k: v for k, v in tree.items() if k != key} | ({"extra": 1} if rng.random() < 0.5 else {})
        return tree[:key] + tree[key + 1 :]
    replace = forge(tree[key], rng)
    return tree | {key: replace} if isinstance(tree, dict) else [*tree[:key], replace, *tree[key + 1 :]]


def other_weights(weights, rng):
    """Return weights with one missing, in excess, or of another shape or type."""
    name = rng.choice(list(weights))
    new = rng.choice(
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
    return rest if new is None else rest | {name if rng.random() < 0.7 else "more": new}


def is_accepted(path, data):
    """Return whether a file is loaded; any other error than CheckpointError, or 2 seconds, is a failure."""
    path.unlink(missing_ok=True)  # truncating a file is slow on some file systems
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


@pytest.mark.parametrize("n", [N_DAMAGED, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_a_damaged_file_is_refused(good, bounded, n):
    rng = random.Random(1)
    for _ in range(n):
        data = damage(good, rng)
        if data != good:
            with pytest.raises(CheckpointError):
                checkpoint.parse(data, "x")


def test_a_damaged_file_with_a_correct_hash_is_refused_or_loaded(good, rehash, bounded, tmp_path):
    rng = random.Random(2)
    n_accepted = sum(is_accepted(tmp_path / "x", rehash(damage(good, rng))) for _ in range(N_REHASHED))
    assert 0 < n_accepted < N_REHASHED / 2  # a changed weight cannot be detected


def test_forged_metadata_or_weights_are_refused_or_loaded(good, rehash, bounded, tmp_path):
    rng = random.Random(3)
    n_header = int.from_bytes(good[:8], "little")
    metadata = json.loads(json.loads(good[8 : 8 + n_header])["__metadata__"]["charlm"])
    tensors = safetensors.torch.load(good)
    n_accepted = 0
    for _ in range(N_FORGED):
        forged, weights = metadata, tensors
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.8:
                changed = forge(forged, rng)
                forged = metadata | {"sha256": "0" * 64} | (changed if isinstance(changed, dict) else {})
            else:
                weights = other_weights(weights, rng) if weights else tensors
        text = json.dumps(forged, separators=(",", ":"))
        n_accepted += is_accepted(tmp_path / "x", rehash(safetensors.torch.save(weights, {"charlm": text})))
    assert 0 < n_accepted < N_FORGED / 2

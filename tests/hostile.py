"""Hostile checkpoints: valid files of every architecture, changed so that they stay consistent, with a correct hash.

A change of an option is made in the metadata, in the recipe and in the weights, which are those of a model of that
size; other fields are changed where they stand.
"""

import copy
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from charlm.errors import CharlmError
from charlm.models import build, options_of
from charlm.recipe import Recipe
from charlm.recipes import to_toml
from charlm.storage.migration import WEIGHTS
from charlm.storage.weights import weights_of

NUMBERS = [-1, 0, 1, 7, 2**20, 2**31, 2**53, 2**63, 2**64, 10**400, 0.5, -0.5, 1e30, 1e308, -1e308]
NUMBERS += [math.inf, -math.inf, math.nan]
TEXTS = ["", "x", "\ud800", "\x1b[31m\a\r\n", "\0", "y" * 70_000, "gru", "mine.py:MyRNN", "../..", "nan", "é\u202e"]
OTHERS = [None, True, False, [], {}, [[]], [1, "x"], {"a": 1}, {"x": {"y": [None]}}]
JUNK = NUMBERS + TEXTS + OTHERS
OPTIONS = {  # small and large values with which weights can be made
    int: [1, 2, 3, 5, 64, 300],
    float: [0.0, 0.5, 0.999],
    bool: [True, False],
    str: ["identity", "orthogonal", "relu", "witten-bell", "x", ""],
}


@dataclass
class File:
    """A checkpoint: metadata as JSON, without the hash, and tensors by name."""

    metadata: dict
    tensors: dict

    @classmethod
    def read(cls, path):
        data = Path(path).read_bytes()
        n_header = int.from_bytes(data[:8], "little")
        metadata = json.loads(json.loads(data[8 : 8 + n_header])["__metadata__"]["charlm"])
        del metadata["sha256"]
        return cls(metadata, safetensors.torch.load(data))

    def copy(self):
        return File(copy.deepcopy(self.metadata), dict(self.tensors))

    def to_bytes(self):
        text = json.dumps({"sha256": "0" * 64} | self.metadata, separators=(",", ":"))
        return with_hash(safetensors.torch.save(self.tensors, {"charlm": text}))

    def set(self, path, value):
        """Set the node of the metadata at a path of keys."""
        *parents, last = path
        node = self.metadata
        for key in parents:
            node = node[key]
        node[last] = value

    def rebuild(self):
        """Replace the weights by random ones of the metadata's options; raise CharlmError where there are none."""
        options = {key: value for key, value in self.metadata["options"].items()}
        torch.manual_seed(1)
        weights = weights_of(build(self.metadata["model"], self.metadata["vocab_size"], **options))
        kept = {key: tensor for key, tensor in self.tensors.items() if "/" in key or "counts." in key}
        self.tensors = {key: weight.detach() for key, weight in weights.items() if "counts." not in key} | kept


def with_hash(data):
    """Return the bytes of a file whose hash is all zeros with the right one."""
    before, after = data.split(b"0" * 64, 1)
    return before + hashlib.sha256(data).hexdigest().encode() + after


def leaves(tree, path=()):
    """Yield the paths of all nodes of a JSON tree."""
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from leaves(value, (*path, key))


def mutants(file):
    """Yield a description and a function that makes one changed file, for every field and value."""

    def changed(label, change):
        def make():
            new = file.copy()
            change(new)
            return new

        return label, make

    for path in leaves({key: value for key, value in file.metadata.items() if key not in ("symbols", "resume")}):
        for value in JUNK:
            yield changed(f"{'.'.join(map(str, path))} = {short(value)}", lambda new, p=path, v=value: new.set(p, v))
        if path[0] != "versions":
            yield changed(f"no {'.'.join(map(str, path))}", lambda new, p=path: remove(new.metadata, p))
    resume = list(leaves(file.metadata["resume"]))
    for path in resume:
        for value in (-1, 2**53, 10**400, math.nan, "x", None, [], {}, {"tensor": "resume/0"}, {"dict": [[1, 2]]}):
            yield changed(f"resume {path} = {short(value)}", lambda new, p=path, v=value: new.set(("resume", *p), v))
        yield changed(f"no resume {path}", lambda new, p=path: remove(new.metadata["resume"], p))
    yield from options(file, changed)
    yield from windows(changed)
    yield from vocabularies(file, changed)
    yield from formats(file, changed)
    for name, tensor in file.tensors.items():
        for label, value in tensors_like(tensor):
            yield changed(f"{name} {label}", lambda new, n=name, v=value: new.tensors.update({n: v()}))
        yield changed(f"no {name}", lambda new, n=name: new.tensors.pop(n))
    for name in ("x", "a/b", "resume/0", "resume/99999", "\n", "\ud7ff\x1b", "n" * 5000, "counts.keys_1"):
        yield changed(f"more: {name[:20]!r}", lambda new, n=name: new.tensors.update({n: torch.ones(1)}))
    for n in (1000, 30_000):
        yield changed(f"{n} empty tensors", lambda new, n=n: new.tensors.update(empty(n)))


def options(file, changed):
    """Yield changes of options with weights that fit, and of options alone."""
    for key, default in options_of(file.metadata["model"]).items():
        for value in OPTIONS[type(default)]:

            def fit(new, key=key, value=value):
                for place in (new.metadata["options"], new.metadata["recipe"]["options"]):
                    place[key] = value
                new.rebuild()

            yield changed(f"option {key} = {value} and its weights", fit)
        for value in JUNK:

            def lie(new, key=key, value=value):
                for place in (new.metadata["options"], new.metadata["recipe"]["options"]):
                    place[key] = value

            yield changed(f"option {key} = {short(value)} everywhere", lie)


def windows(changed):
    """Yield windows that metadata and recipe agree on."""
    for n_context in (None, 1, 3, 4, 8, 4096, 4097, 2**20):

        def window(new, n_context=n_context):
            new.metadata["n_context"] = n_context
            new.metadata["recipe"] |= {"feed": "stream" if n_context is None else "windows"}
            new.metadata["recipe"] |= {} if n_context is None else {"n_context": n_context}

        yield changed(f"window of {n_context}", window)


def vocabularies(file, changed):
    """Yield other vocabularies, with weights that fit and without."""
    for n in (1, 2, 256, 5000, 1_114_111):
        for is_bytes in (False, True):
            for fits in (False, True) if n <= 5000 else (False,):

                def another(new, n=n, is_bytes=is_bytes, fits=fits):
                    new.metadata |= {"symbols": [*range(n)], "vocab_size": n + 1, "is_bytes": is_bytes}
                    new.metadata["recipe"]["bytes"] = is_bytes
                    if fits:
                        new.rebuild()

                yield changed(f"{n} symbols, bytes {is_bytes}, weights {fits}", another)
    for label, symbols in {"surrogates": [*range(0xD800, 0xD800 + 19)], "doubled": [1, 1], "floats": [1.0]}.items():
        yield changed(f"symbols: {label}", lambda new, s=symbols: new.metadata.update(symbols=s, vocab_size=len(s) + 1))


def formats(file, changed):
    """Yield the file in format 1, with the old names and with the new ones, and formats that there are not."""
    model = file.metadata["model"]

    def old(new):
        new.metadata["format"] = 1
        new.metadata["recipe"]["accumulate"] = 1
        for before, after in WEIGHTS.get(model, {}).items():
            new.tensors = {name.replace(after, before): tensor for name, tensor in new.tensors.items()}

    def old_and_nonsense(new, value):
        old(new)
        new.metadata["recipe"] = value

    yield changed("format 1", old)
    yield changed("format 1, new names", lambda new: new.metadata.update(format=1))
    for value in OTHERS:
        yield changed(f"format 1, recipe {value}", lambda new, v=value: old_and_nonsense(new, v))
        yield changed(f"format 1, options {value}", lambda new, v=value: new.metadata.update(format=1, options=v))
    for value in JUNK:
        yield changed(f"format 1, model {short(value)}", lambda new, v=value: new.metadata.update(format=1, model=v))


def tensors_like(tensor):
    """Yield descriptions of other values of a tensor and functions that make them."""
    yield "without values", lambda: torch.zeros(0)
    yield "of one value", lambda: torch.ones(())
    yield "with one axis more", lambda: tensor[None].contiguous()
    yield "with a row more", lambda: torch.cat([tensor, tensor[:1]]) if tensor.dim() else tensor
    yield "with a row less", lambda: tensor[:-1].contiguous() if tensor.dim() else tensor
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool):
        yield f"of type {dtype}", lambda dtype=dtype: tensor.to(dtype)
    if tensor.is_floating_point():
        for value in (math.nan, math.inf, 3e38, -1e30, 0.0):
            yield f"of {value}", lambda value=value: torch.full_like(tensor, value)
        yield (
            "with one NaN",
            lambda: torch.where(torch.arange(tensor.numel()).view(tensor.shape) == 0, math.nan, tensor),
        )
    elif tensor.dtype != torch.bool and tensor.numel():
        info = np.iinfo(str(tensor.dtype).removeprefix("torch."))
        for value in (0, 1, info.max, info.min):
            yield f"of {value}", lambda value=value: torch.full_like(tensor, value)
        yield "last one largest", lambda: torch.cat([tensor.flatten()[:-1], tensor.new_tensor([info.max])])
        yield "spread", lambda: (torch.arange(tensor.numel()) * 1000003 % max(info.max, 1)).to(tensor.dtype)
        yield "sorted up to the largest", lambda: torch.linspace(0, info.max * 0.99, tensor.numel()).to(tensor.dtype)


def empty(n):
    return {f"layers.weight_ih_l{i}": torch.empty(0) for i in range(n)}


def remove(tree, path):
    *parents, last = path
    for key in parents:
        tree = tree[key]
    del tree[last]


def short(value):
    return repr(value)[:30]


def recipe_of(metadata, fallback):
    """Return the recipe in metadata as TOML, if it is one."""
    try:
        return to_toml(Recipe().replace(**{key: v for key, v in metadata["recipe"].items() if key != "accumulate"}))
    except (CharlmError, KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return fallback


SMALL = {"n_embed": 4, "n_hidden": 6, "n_layers": 2, "order": 3, "n_heads": 2, "n_state": 3, "head_size": 2}
SMALL |= {"window_size": 5, "rank": 2, "n_rounds": 2}


def small_options(name):
    return {key: value for key, value in SMALL.items() if key in options_of(name)}

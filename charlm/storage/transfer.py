"""Transfer of trained weights to a new training, also with another vocabulary.

Of each weight, the axes that depend on the vocabulary are found by comparing shapes at two vocabulary sizes. Such an
axis has a + k V + c entries: k blocks of one entry for each symbol, and before and after them a and c that do not
depend on the vocabulary; c is 0 but for `CharModel.n_after_symbols`. Entries of a block move with their characters,
those of new characters start at the mean of the block.

Shapes: V vocab_size of the trained model, W vocab_size of the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm import models, recipes
from charlm.data.named_texts import default_split
from charlm.data.vocab import Vocab
from charlm.errors import CheckpointError, UsageError
from charlm.models import CharModel
from charlm.models.counting import CountingModel, counts_of
from charlm.recipe import Recipe
from charlm.storage import checkpoint, runs
from charlm.storage.weights import weights_of

START_KEYS = ("init_from", "keep_counts", "freeze", "group_rates", "unfreeze_epochs")  # each start gives its own
MAX_SHOWN = 40  # characters in a message


@dataclass(frozen=True)
class Transfer:
    """Result of a transfer.

    Attributes:
        path: the trained model's file.
        has_weights: weights were copied; a model that only counts has none.
        counts: the new model's n-gram counts: "kept", "anew", or "" for a model without.
        new: characters that the trained model did not have.
        lost: characters that the new model does not have.
    """

    path: Path
    has_weights: bool
    counts: str
    new: str
    lost: str

    @property
    def message(self) -> str:
        """The result in one line."""
        parts = [f"begins with the {'weights' if self.has_weights else 'recipe'} of {self.path}"]
        if self.counts == "kept":
            parts.append("its n-gram counts are kept, and those of this text added")
        elif self.counts == "anew":
            parts.append("its n-gram counts are not used, this text is counted anew (--keep-counts keeps them)")
        if self.new:
            mean = ", from the mean of the others" if self.has_weights else ""
            parts.append(f"new characters{mean}: {_shown(self.new)}")
        if self.lost:
            parts.append(f"characters it had and this text lacks: {_shown(self.lost)}")
        return "; ".join(parts)


def _shown(chars: str) -> str:
    more = f" and {len(chars) - MAX_SHOWN} more" if len(chars) > MAX_SHOWN else ""
    return repr(chars[:MAX_SHOWN])[1:-1] + more


def resolve_recipe(base: str | None, changes: Mapping[str, Any], folder: Path | None = None) -> Recipe:
    """Return a recipe with changes, on the recipe of a trained model if `init_from`, here or in `base`, names one.

    Of that model's recipe, a new limit in epochs replaces a limit in minutes, and the other keys of `START_KEYS` are
    not inherited.

    Args:
        base: name or file of a recipe, whose keys come before `changes`; None for none.
        changes: keys to replace.
        folder: folder of the runs; None for the default.

    Raises:
        InputNotFoundError: there is no such recipe, run or file.
        CheckpointError: the file is damaged or not a checkpoint.
        UsageError: an invalid key or value, or a model that was trained on standard input without a text here.
    """
    from_base = {} if base is None else recipes.read_toml(base)
    given = {**from_base, **changes}
    if "init_from" not in given:
        return (recipes.default(changes) if base is None else recipes.load(base)).replace(**changes)
    name = given.pop("init_from")
    for keys in (from_base, changes):
        Recipe().replace(**{"init_from": name, **keys})  # checks each value before the run is read
    given["options"] = {**from_base.get("options", {}), **changes.get("options", {})}
    path = runs.find_checkpoint(name, folder or runs.FOLDER)
    metadata, _ = checkpoint.read(path)
    kept = {key: value for key, value in metadata.recipe.items() if key not in START_KEYS}
    if "corpus" in given and kept.get("split") == default_split(kept.get("corpus", ())):
        kept.pop("split", None)  # that of the other text
    kept |= {"model": metadata.model, "options": metadata.options}
    kept["init_from"] = name if path == runs.packaged_model() else str(path)
    if "epochs" in given and "minutes" not in given:
        kept.pop("minutes", None)
    if "corpus" not in given and "-" in kept.get("corpus", ()):
        raise UsageError(f"{path}: its text was not in a file; name a text with --corpus")
    try:
        start = Recipe().replace(**kept)
    except UsageError as error:
        raise CheckpointError(f"{path}: its recipe cannot be used: {error}") from None
    return start.replace(**given)


def transfer_weights(model: CharModel, vocab: Vocab, choices: Recipe) -> Transfer:
    """Copy the weights of the trained model that a recipe names into a new model; counts are left out (`keep_counts`).

    Args:
        model: of the same architecture and sizes, except for its vocabulary.
        vocab: of the new model.
        choices: the recipe, with `init_from`.

    Raises:
        InputNotFoundError: there is no such run or file.
        CheckpointError: the file is damaged or not a checkpoint.
        UsageError: the architectures, their sizes or the kinds of symbols differ.
    """
    assert choices.init_from is not None
    path = runs.find_checkpoint(choices.init_from)
    metadata, tensors = checkpoint.read(path)
    if models.find(metadata.model) is not models.find(choices.model):
        raise UsageError(f"{path}: has weights of model {metadata.model}, not {choices.model}; leave out --model")
    if metadata.is_bytes != vocab.is_bytes:
        flag = "--bytes" if metadata.is_bytes else "--no-bytes"
        raise UsageError(f"{path}: has {'bytes' if metadata.is_bytes else 'characters'} as symbols; give {flag}")
    old = metadata.vocab
    index_of = {point: i for i, point in enumerate(old.codepoints.tolist(), 1)}
    source = torch.tensor([0, *(index_of.get(point, len(old)) for point in vocab.codepoints.tolist())])
    with torch.random.fork_rng(devices=[]):
        wider = models.build(choices.model, len(old) + 1, **metadata.options)
    grown = {name: weight.shape for name, weight in weights_of(wider).items()}
    counts = counts_of(model)
    for name, weight in weights_of(model).items():
        if name in counts:
            continue
        moved = tensors.get(name)
        if moved is not None and moved.dim() == weight.dim() and name in grown:
            moved = moved.to(weight.dtype)
            for axis, size in enumerate(moved.shape):
                if n_blocks := grown[name][axis] - size:
                    n_after = model.n_after_symbols.get(name, 0)
                    moved = _move_axis(moved, axis, n_blocks, n_after, len(old), source)
        if moved is None or moved.shape != weight.shape:
            found = "missing" if moved is None else f"of shape {tuple(moved.shape)}"
            raise UsageError(
                f"{path}: its {name} is {found}, the new model's is of shape {tuple(weight.shape)}; "
                "leave out the options that change sizes"
            )
        weight.data.copy_(moved)
    new, lost = set(vocab.symbols) - set(old.symbols), set(old.symbols) - set(vocab.symbols)
    how = ("kept" if choices.keep_counts else "anew") if isinstance(model, CountingModel) else ""
    return Transfer(path, model.uses_gradients, how, "".join(sorted(new)), "".join(sorted(lost)))


def _move_axis(weight: Tensor, axis: int, n_blocks: int, n_after: int, vocab_size: int, source: Tensor) -> Tensor:
    """Return a weight whose blocks on one axis are those of another vocabulary.

    Args:
        weight: a + k V + c entries on the axis.
        axis: the axis.
        n_blocks: k.
        n_after: c.
        vocab_size: V.
        source: index of each new symbol among the old ones, V for none, long, (W,).
    """
    n_before = weight.shape[axis] - n_blocks * vocab_size - n_after
    before, blocks, after = torch.split(weight, [n_before, n_blocks * vocab_size, n_after], axis)
    blocks = blocks.unflatten(axis, (n_blocks, vocab_size))  # type: ignore[no-untyped-call]
    mean = blocks.narrow(axis + 1, 1, vocab_size - 1).mean(axis + 1, keepdim=True)  # 0 is the unknown symbol
    blocks = torch.cat([blocks, mean], axis + 1).index_select(axis + 1, source)
    return torch.cat([before, blocks.flatten(axis, axis + 1), after], axis)

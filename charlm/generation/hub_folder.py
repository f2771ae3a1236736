"""Folder for model hubs: weights, config.json, model card, and training recipe.

`model.safetensors` is a checkpoint, so every function that takes a run takes the folder. The other files repeat its
metadata for readers and other programs.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from charlm.errors import OutputError
from charlm.evaluation.metrics import nats_to_bits
from charlm.files import TEMP_SUFFIX, atomic_write, fsync_dir
from charlm.generation.language_model import LanguageModel
from charlm.options.arguments import checked_path
from charlm.recipe import Recipe
from charlm.recipes import to_toml
from charlm.storage.runs import HUB, HUB_CONFIG

CARD, RECIPE = "README.md", "train.toml"
FILES = {HUB, HUB_CONFIG, CARD, RECIPE}
PARTS = {"train": "training", "valid": "validation", "test": "test"}


def save_hub_folder(
    model: LanguageModel, path: str | Path, dtype: torch.dtype | None = None, replace: bool = False
) -> None:
    """Write a folder with `model.safetensors`, `config.json`, `README.md` and `train.toml`, whole or not at all.

    Args:
        model: the model.
        path: new folder.
        dtype: see `LanguageModel.save`.
        replace: replace an existing folder if it holds only these files.

    Raises:
        OutputError: the folder exists, or cannot be written.
        UsageError: see `LanguageModel.save`.
    """
    folder = Path(os.path.abspath(checked_path("path", path)))
    check_hub_folder(folder, replace)
    with _atomic_folder(folder) as new:
        model.save(new / HUB, dtype)
        texts = {
            HUB_CONFIG: json.dumps(_config(model), indent=2, ensure_ascii=False) + "\n",
            RECIPE: to_toml(_recipe(model)),
            CARD: model_card(model, folder.name),
        }
        for name, text in texts.items():  # the path of a text may not be valid UTF-8
            atomic_write(new / name, text.encode(errors="replace"))


def check_hub_folder(path: Path, replace: bool) -> None:
    """Check that a folder does not exist, or that it may be replaced.

    Raises:
        OutputError: it exists, and `replace` is False or the folder holds other files.
    """
    if not os.path.lexists(path):
        return
    if not replace:
        raise OutputError(f"{path}: exists already; --force replaces it")
    if path.is_symlink() or not path.is_dir():
        raise OutputError(f"{path}: cannot be written: it is not a folder; choose another name")
    if others := sorted({found.name for found in path.iterdir()} - FILES):
        raise OutputError(f"{path}: holds {others[0]!r}, which no export wrote; choose another name")


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `path` at the end of the context.

    Raises:
        OutputError: the folder cannot be written; an existing one is unchanged.
    """
    new, old = (path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}") for _ in range(2))
    try:
        new.mkdir()
        yield new
        fsync_dir(new)
        if path.is_dir():
            path.rename(old)
        new.rename(path)
        fsync_dir(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        if old.is_dir() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)


def _config(model: LanguageModel) -> dict[str, Any]:
    """Return the metadata without the training state."""
    metadata = asdict(model.metadata)
    del metadata["resume"]
    return {"library_name": "charlm", "model_type": metadata.pop("model"), **metadata}


def _recipe(model: LanguageModel) -> Recipe:
    """Return the recipe of the training; keys of a later version are left out."""
    stored, known = model.metadata.recipe, {key.name for key in fields(Recipe)}
    return Recipe().replace(model=model.metadata.model).replace(**{key: stored[key] for key in stored if key in known})


def model_card(model: LanguageModel, name: str) -> str:
    """Return the model card: Markdown after the YAML fields of model hubs.

    Args:
        model: the model.
        name: of its folder.
    """
    metadata, recipe = model.metadata, _recipe(model)
    unit, text = "byte" if metadata.is_bytes else "character", metadata.corpus.get("name", "?")
    sha256 = metadata.corpus.get("sha256") or "unknown"
    rows = [
        f"| {title} | {nats_to_bits(nats):.4f} | {nats:.4f} | {_coverage(metadata.result, part)} |"
        for part, title in PARTS.items()
        if (nats := metadata.result.get(f"{part}_nats")) is not None
    ]
    options = ", ".join(f"`{key}` {json.dumps(value)}" for key, value in metadata.options.items())
    own = f" --model {shlex.quote(metadata.model)}" if ":" in metadata.model else ""  # a class outside the package
    quoted = shlex.quote(name)
    return f"""---
license: unknown  # fill in: the licence of the weights, which that of the text may limit
library_name: charlm
pipeline_tag: text-generation
tags:
- charlm
- character-level
- {json.dumps(metadata.model)}
---

# {name}

A character-level language model: `{metadata.model}`, {model.model.n_parameters:,} parameters, {len(model.vocab) - 1}
{unit}s, trained on `{text}`.

```sh
charlm sample {quoted} --prime "text"{own}
charlm eval {quoted}{own}
charlm train --recipe {quoted}/{RECIPE}{own}
```

The last line repeats the training. In Python: `charlm.load({json.dumps(name)}).sample("text")`.

| part | bits per {unit} | nats per {unit} | {unit}s |
| --- | --- | --- | --- |
{chr(10).join(rows) or "| not measured | | | |"}

- Text: `{text}`, {metadata.corpus.get("n_chars", 0):,} {unit}s, SHA-256 `{sha256}`
- Split: `{recipe.split}`; every {unit} of a part is predicted once from those before it
- Options: {options}
- Trained with: {", ".join(f"{key} {version}" for key, version in metadata.versions.items()) or "unknown versions"}
- Intended use, limits, bias: fill in
"""


def _coverage(result: dict[str, Any], part: str) -> str:
    """Return the evaluated characters of a part: "all", or their number if only its beginning was evaluated."""
    n_read = result.get(f"{part}_chars")
    return "all" if n_read is None else f"the first {n_read:,} of {result[f'{part}_part_chars']:,}"

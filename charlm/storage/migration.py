"""Migration: checkpoints of format 1 in the current format."""

from __future__ import annotations

from typing import Any

from charlm.recipes.files import from_format_1

# Renamed parts of weight names, by architecture: {old: new}.
WEIGHTS: dict[str, dict[str, str]] = {
    "transformer": {".to_heads.": ".qkv_proj.", ".from_heads.": ".out_proj."},
    "ngram": {"head.": "counts."},
    "word-ngram": {"head.kinds": "head.char_classes", "head.": "counts."},
    "lstm-ngram": {
        "counts.head.kinds": "counts.char_classes",
        "counts.head.": "counts.",
        "head.trust.": "head.expert_weights.",
        "head.own.": "head.base_head.",
    },
}


def upgrade(metadata: dict[str, Any], tensors: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metadata and tensors of a checkpoint of format 1 in the current format, except the training state.

    Args:
        metadata: the fields of `Metadata`.
        tensors: by name.
    """
    renamed = WEIGHTS.get(metadata["model"], {})
    upgraded = {}
    for name, tensor in tensors.items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        upgraded[name] = tensor
    options = from_format_1({"model": metadata["model"], "options": metadata["options"]})["options"]
    return metadata | {"options": options, "recipe": from_format_1(metadata["recipe"])}, upgraded

"""Character-level language models: train, compare, sample, score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.api import load, train
    from charlm.generation.language_model import LanguageModel

__version__ = "0.1.0"
__all__ = ["LanguageModel", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, since torch takes seconds."""
    if name == "LanguageModel":
        from charlm.generation.language_model import LanguageModel

        return LanguageModel
    if name in ("load", "train"):
        from charlm import api

        return getattr(api, name)
    raise AttributeError(f"module 'charlm' has no attribute {name!r}")

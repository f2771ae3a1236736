"""Weights and options of a checkpoint for the numpy engines, which take out and check each one.

Shapes: V vocab_size, E n_embed, H n_hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
T = TypeVar("T")

INITS = ("uniform", "identity", "orthogonal")  # values of the option `init`, which does not affect trained weights


class Weights:
    """Weights and options of a model that an engine takes out one by one.

    Args:
        arrays: as a checkpoint contains them; a tied head has no matrix of its own.
        config: options of the model's constructor, defaults included.
        vocab_size: V.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any], vocab_size: int) -> None:
        self.arrays, self.config, self.vocab_size = dict(arrays), dict(config), vocab_size

    def option(self, name: str, kind: type[T]) -> T:
        """Take an option out.

        Raises:
            ValueError: it is missing or has another type.
        """
        value = self.config.pop(name, None)
        if type(value) is not kind or (kind is int and value < 1):  # type: ignore[operator]
            raise ValueError(f"{name} is {value!r}")
        return value

    def pop(self, name: str, *shape: int) -> Array:
        """Take an array of floats of this shape out, as float32.

        Raises:
            ValueError: it is missing, has another shape or type, or is not finite.
        """
        array = self.arrays.pop(name, None)
        if array is None or array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} is not an array of finite floats of shape {shape}")
        return array.astype(np.float32)

    def matrix(self, name: str, n_in: int, n_out: int) -> Array:
        """Take a matrix (n_out, n_in) out and transpose it to (n_in, n_out), contiguous in memory."""
        return np.ascontiguousarray(self.pop(name, n_out, n_in).T)

    def linear(self, name: str, n_in: int, n_out: int) -> tuple[Array, Array]:
        """Take a linear layer out: its matrix transposed, (n_in, n_out), and its bias, (n_out,)."""
        return self.matrix(f"{name}.weight", n_in, n_out), self.pop(f"{name}.bias", n_out)

    def check_all_used(self) -> None:
        """Check that the engine has taken out all weights, and all options but dropout and initialisation.

        Raises:
            ValueError: there are other weights or options.
        """
        for key, value in self.config.items():
            is_dropout = "dropout" in key and type(value) in (int, float) and 0 <= value < 1
            if not is_dropout and not (key == "init" and value in INITS):
                raise ValueError(f"{key} is {value!r}")
        if self.arrays:
            raise ValueError(f"unexpected weights: {', '.join(sorted(self.arrays)[:3])}")

"""Range coder: an encoder and a decoder with one interface, so that both directions run the same code.

The coder is that of the library `constriction` (Bamler 2022, arXiv:2201.01741): 64 bits of state, words of 32 bits.

Shapes: M symbols, V size of their alphabet.
"""

from __future__ import annotations

from typing import Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

from charlm.compression.quantization import Floats

Symbols = NDArray[np.int32]
FAMILY = constriction.stream.model.Categorical(perfect=False)


class WrongBitsError(Exception):
    """The bits cannot have been encoded with these probabilities."""


class Coder(Protocol):
    """An encoder, which writes the given symbols, or a decoder, which reads symbols."""

    def code(self, weights: Floats, symbols: Symbols | None) -> Symbols:
        """Code symbols.

        Args:
            weights: of `quantized`, a row for each symbol, (M, V).
            symbols: int32, (M,), for an encoder; None for a decoder.

        Returns:
            the symbols, int32, (M,).
        """

    def code_uniform(self, size: int, symbol: int | None) -> int:
        """Code one of `size` equally probable symbols; see `code`."""


class Encoder(Coder):
    """Encoder of symbols to words."""

    def __init__(self) -> None:
        self.encoder = constriction.stream.queue.RangeEncoder()

    def code(self, weights: Floats, symbols: Symbols | None) -> Symbols:
        """Write symbols; see `Coder.code`."""
        assert symbols is not None
        self.encoder.encode(symbols, FAMILY, weights)
        return symbols

    def code_uniform(self, size: int, symbol: int | None) -> int:
        """Write a symbol; see `Coder.code_uniform`."""
        assert symbol is not None
        self.encoder.encode(symbol, constriction.stream.model.Uniform(size))
        return symbol

    def payload(self) -> bytes:
        """Return the code, in words of four bytes."""
        words: NDArray[np.uint32] = self.encoder.get_compressed()
        return words.astype("<u4").tobytes()


class Decoder(Coder):
    """Decoder of words to symbols.

    Args:
        payload: of an encoder.
    """

    def __init__(self, payload: bytes) -> None:
        self.decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))

    def code(self, weights: Floats, symbols: Symbols | None) -> Symbols:
        """Return the next symbols; see `Coder.code`.

        Raises:
            WrongBitsError: the words were written with other weights, or by no encoder.
        """
        try:
            found: Symbols = self.decoder.decode(FAMILY, weights)
        except AssertionError as error:
            raise WrongBitsError from error
        return found

    def code_uniform(self, size: int, symbol: int | None) -> int:
        """Return the next symbol; see `code`."""
        try:
            return int(self.decoder.decode(constriction.stream.model.Uniform(size)))
        except AssertionError as error:
            raise WrongBitsError from error

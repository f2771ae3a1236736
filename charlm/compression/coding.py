"""Block coder: characters to bits and back, with the same loop for both directions.

A block of N characters is cut into B lanes of equal length, which are read in lockstep. Each lane continues from the
state of the same lane at the end of the previous block.

Shapes: N characters of a block, B lanes, L = ceil(N / B) characters of a lane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.compression.predictors import Predictor
from charlm.compression.quantization import quantized
from charlm.compression.range_coder import Coder
from charlm.compression.unknown import UnknownCharacters
from charlm.data.vocab import Codepoints


class BlockCoder:
    """Encoder or decoder of consecutive blocks.

    A lower-case model codes capital letters as unknown characters, and reads the lower-case letters.

    Args:
        predictor: in its initial state.
        copies: pass a copy of the ids to `Predictor.read`; False restores files of format 1, in which the window of
            several lanes repeats the last character. Other predictors do not keep the array.
    """

    def __init__(self, predictor: Predictor, copies: bool = True) -> None:
        self.predictor, self.copies = predictor, copies
        self.unknown = UnknownCharacters(predictor.vocab)
        self.points_of = np.concatenate([[0], predictor.vocab.codepoints]).astype(np.uint32)

    def code(self, coder: Coder, n_chars: int, given: Codepoints | None = None) -> Codepoints:
        """Encode or decode a block.

        Args:
            coder: an encoder or a decoder.
            n_chars: N.
            given: code points or bytes, (N,), for an encoder; None for a decoder.

        Returns:
            code points or bytes, uint32, (N,).
        """
        n_lanes, vocab = self.predictor.n_lanes, self.predictor.vocab
        length = -(-n_chars // n_lanes)
        lanes = np.zeros((n_lanes, length), np.uint32)
        ids_given = None
        if given is not None:
            lanes.reshape(-1)[:n_chars] = given
            ids_given = vocab.encode_codepoints(lanes).astype(np.int32)
        ids: NDArray[Any] = np.full(n_lanes, vocab.bos_id)
        for t in range(length):
            n = -(-(n_chars - t) // length)  # lanes that still have a character
            weights = quantized(self.unknown.mix(self.predictor.probs[:n]))
            found = coder.code(weights, None if ids_given is None else np.ascontiguousarray(ids_given[:n, t]))
            ids[:n] = found
            if found.all():
                lanes[:n, t] = self.points_of[found]
            else:
                self._code_unknown(coder, lanes, t, ids[:n], is_given=given is not None)
            self.unknown.count(weights, found)
            self.predictor.read(ids.copy() if self.copies else ids)
        return lanes.reshape(-1)[:n_chars]

    def _code_unknown(self, coder: Coder, lanes: Codepoints, t: int, ids: NDArray[Any], is_given: bool) -> None:
        for lane, index in enumerate(ids.tolist()):
            if index:
                lanes[lane, t] = self.points_of[index]
                continue
            point = self.unknown.code(coder, int(lanes[lane, t]) if is_given else None)
            lanes[lane, t] = point
            if self.predictor.lower and len(small := chr(point).lower()) == 1:
                ids[lane] = self.predictor.vocab.encode(small)[0]

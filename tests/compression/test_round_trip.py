"""Compression is lossless for any bytes, with any model, and its size is the bits of the evaluation protocol."""

import io
import math
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import TEXT

from charlm.compression import compress, decompress, load_model
from charlm.compression.coding import BlockCoder
from charlm.compression.file_format import Block, Header, block_bytes, end_bytes, header_bytes
from charlm.compression.predictors import fingerprint
from charlm.compression.quantization import BITS, quantized, softmax
from charlm.compression.range_coder import Decoder, Encoder
from charlm.generation.language_model import LanguageModel

MODELS = [
    {},
    {"is_bytes": True},
    {"lower": True},
    {"name": "char3"},
    {"name": "loop"},
    {"name": "min-gru"},
    {"name": "transformer"},
    {"name": "ngram"},
    {"name": "ngram", "n_context": 4},
    {"name": "word-ngram"},
    {"name": "lstm-ngram"},
]
HARD = [
    b"",
    b"a",
    b"\n",
    b"\0",
    b"\xff",
    b"\xe2\x82",  # the beginning of a character
    b"\xed\xb2\x80",  # U+DC80 in UTF-8, which is invalid
    b"\xef\xbb\xbfBOM",
    "SUPPOSING \u03a3\u0130 \U0001f600 \u4e2d\u6587\u4e2d\u6587".encode(),
    bytes(range(256)),
    b"\0" * 100,
    b"a\r\nb\rc\n",
    TEXT[:20].encode("utf-16"),
    TEXT.encode(),
]


def compressed(data, model, n_lanes=1):
    """Return the compressed file of some bytes, and the report."""
    parts = []
    report = compress([data], parts.append, model, n_lanes)
    return b"".join(parts), report


def restored(file, model):
    """Return the bytes of a compressed file."""
    parts = []
    decompress(io.BytesIO(file), "a file", parts.append, lambda header: model)
    return b"".join(parts)


@pytest.mark.parametrize("options", MODELS, ids=str)
@pytest.mark.parametrize("n_lanes", [1, 3])
def test_any_bytes_come_back_with_any_model(checkpoint, options, n_lanes):
    model = load_model(checkpoint(**options))
    for data in HARD:
        file, report = compressed(data, model, n_lanes)
        assert restored(file, model) == data
        assert report.n_bytes == len(data)


def check_random_bytes(model, data, n_lanes):
    """Check the round trip of one byte string."""
    assert restored(compressed(data, model, n_lanes)[0], model) == data


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode), st.sampled_from([1, 2, 5]))
def test_random_bytes_come_back(small, data, n_lanes):
    check_random_bytes(small, data, n_lanes)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.sampled_from([1, 2, 5]))
def test_ten_thousand_random_byte_strings_come_back(small, data, n_lanes):
    check_random_bytes(small, data, n_lanes)


@pytest.mark.parametrize("options", [{}, {"name": "min-gru"}, {"name": "ngram"}, {"name": "lstm-ngram"}], ids=str)
def test_the_payload_is_the_bits_of_the_evaluation(checkpoint, options):
    path, text = checkpoint(**options), TEXT * 30
    file, report = compressed(text.encode(), load_model(path))
    n_bytes = LanguageModel.load(path).score(text).nats / math.log(2) / 8
    assert abs(report.payload_bytes - n_bytes) < 0.001 * n_bytes + 100
    assert report.n_unknown == 0
    assert len(file) < report.payload_bytes + 400


@pytest.mark.parametrize("n_context", [None, 4])
def test_parts_in_lockstep_are_predicted_from_the_characters_before(checkpoint, n_context):
    model, data = load_model(checkpoint(name="ngram", n_context=n_context)), TEXT.encode() * 30
    one, four = (compressed(data, model, n_lanes)[1].payload_bytes for n_lanes in (1, 4))
    assert four < one + 100 < 0.3 * len(data)


def test_a_file_of_format_1_whose_windows_repeat_the_last_character_is_restored(checkpoint):
    model, data = load_model(checkpoint(name="ngram", n_context=4)), TEXT.encode()
    predictor, encoder = model.predictor(3), Encoder()
    header = header_bytes(Header(model.sha256, 3, 0, fingerprint(predictor), {}))
    BlockCoder(predictor, copies=False).code(encoder, len(data), np.frombuffer(data, np.uint8))
    crc = zlib.crc32(data)
    file = header + block_bytes(Block(len(data), crc, encoder.payload())) + end_bytes(len(data), crc)
    assert restored(file, model) == data
    assert compressed(data, model, 3)[1].payload_bytes < 0.7 * len(encoder.payload())


IMPORTS = """
import io
import sys
import zlib
from pathlib import Path

import numpy as np

from charlm.compression import compress, decompress, load_model
from charlm.compression.coding import BlockCoder
from charlm.compression.file_format import Block, Header, block_bytes, end_bytes, header_bytes
from charlm.compression.predictors import fingerprint, one_thread
from charlm.compression.range_coder import Encoder

assert "torch" not in sys.modules
model, data = load_model(Path(sys.argv[1])), b"Is there not ground"
"""
ONE_THREAD = """
threads = []
compress([data], lambda part: threads.append(sys.modules["torch"].get_num_threads()), model)
print(set(threads), sys.modules["torch"].get_num_threads())
"""
ALL_THREADS = """
with one_thread():
    predictor, encoder, crc = model.predictor(1), Encoder(), zlib.crc32(data)
    header = header_bytes(Header(model.sha256, 1, 0, fingerprint(predictor), {}))
    BlockCoder(predictor).code(encoder, len(data), np.frombuffer(data, np.uint8))
file = header + block_bytes(Block(len(data), crc, encoder.payload())) + end_bytes(len(data), crc)
Path("old.clm").write_bytes(file)
"""
RESTORED = """
parts = []
decompress(io.BytesIO(Path("old.clm").read_bytes()), "old.clm", parts.append, lambda header: model)
print(b"".join(parts) == data)
"""


def in_new_process(code, path, folder):
    """Return what a program prints that has not imported PyTorch, which has two threads."""
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}  # waiting threads leave the core to others
    line, environment = [sys.executable, "-c", IMPORTS + code, path], os.environ | threads
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_model_that_imports_pytorch_computes_in_one_thread(checkpoint, tmp_path):
    assert in_new_process(ONE_THREAD, checkpoint(name="min-gru"), tmp_path) == "{1} 2\n"


def test_a_file_that_was_written_with_all_threads_is_restored(checkpoint, tmp_path):
    path = checkpoint(name="transformer", n_embed=64, head_size=32)  # its sums depend on the threads
    in_new_process(ALL_THREADS, path, tmp_path)
    assert in_new_process(RESTORED, path, tmp_path) == "True\n"


def test_unknown_characters_are_learned(small):
    text = "Is there \u4e2d\u6587? " * 200
    _, report = compressed(text.encode(), small)
    assert report.n_unknown == 400
    assert report.unknown_bits < 400 * 8  # 21 bits each as code points


def test_the_coder_uses_the_integers_of_the_quantisation():
    rng = np.random.default_rng(1)
    for concentration in (0.01, 0.1, 1):
        for size in (2, 3, 85, 257):
            weights = quantized(rng.dirichlet(np.full(size, concentration)))
            ends = (weights + 1).cumsum().astype(int)
            assert ends[-1] == 1 << BITS
            for symbol, (first, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                for quantile in (first, stop - 1):  # the first word of a range coder begins with the quantile
                    payload = np.array([quantile << 32 - BITS, 0], "<u4").tobytes()
                    assert Decoder(payload).code(weights[None], None) == [symbol]


def test_symbols_of_the_smallest_probability_come_back():
    weights = quantized(softmax(np.array([[0.0, -1e4, 200.0, -np.inf]])))
    symbols = np.array([0, 1, 3, 2, 0], np.int32)
    encoder = Encoder()
    encoder.code(weights.repeat(5, 0), symbols)
    assert Decoder(encoder.payload()).code(weights.repeat(5, 0), None).tolist() == symbols.tolist()

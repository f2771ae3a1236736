"""Logits of ONNX exports beside those of Python, for every architecture: size, seconds, differences, speed.

    python benchmarks/onnx_export.py

Default options, vocabulary of the default text, random weights. Difference: the largest one of a logit over 1,000
random characters of each of 3 texts. Speed: characters a second of one text, ONNX Runtime with one thread.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnxruntime
import torch
from common import machine, require_text

from charlm.api import read_corpus
from charlm.data.named_texts import DEFAULT_TEXT
from charlm.errors import UsageError
from charlm.generation import LanguageModel, onnx_model
from charlm.generation.onnx_export import CHARS, initial_state
from charlm.models import MODELS, build
from charlm.recipe import Recipe
from charlm.storage import Metadata

N_CHARS, N_TEXTS = 1000, 3


def random_model(name: str, vocab: Any, n_context: int | None) -> LanguageModel:
    """Return a model with random weights."""
    torch.manual_seed(0)
    model = build(name, len(vocab)).eval()
    return LanguageModel(model, Metadata(name, model.config, len(vocab), vocab.codepoints.tolist(), False, n_context))


def onnx_logits(session: Any, ids: np.ndarray) -> np.ndarray:
    """Return the logits after each character, (N, B, V), from indices, (N, B)."""
    state, rows = initial_state(session, ids.shape[1]), []
    for chars in ids:
        logits, *after = session.run(None, {CHARS: chars, **state})
        state = dict(zip(state, after, strict=True))
        rows.append(logits)
    return np.array(rows)


def python_logits(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """Return the logits after each character, (N, B, V), from indices, (N, B)."""
    n_context, stepper = model.metadata.n_context, model.stepper(ids.shape[1])
    window, rows = [np.full(ids.shape[1], model.vocab.bos_id)] * (n_context or 1), []
    for chars in ids:
        window = [*window[1:], chars]
        if n_context:
            stepper.reset()
        rows.append(stepper.read(window))
    return np.array(rows)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    require_text(DEFAULT_TEXT)
    torch.set_num_threads(1)
    vocab = read_corpus(Recipe().replace(corpus=[DEFAULT_TEXT])).vocab
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    print(machine(), f"onnxruntime {onnxruntime.__version__}")
    print("| architecture | MB | seconds | largest difference | characters a second |\n| --- | --- | --- | --- | --- |")
    ids = np.random.default_rng(0).integers(0, len(vocab), (N_CHARS, N_TEXTS))
    for name, n_context in [(name, MODELS[name].n_context) for name in MODELS] + [("loop", 8), ("transformer", 8)]:
        model = random_model(name, vocab, n_context)
        begin = time.process_time()
        try:
            data = onnx_model(model)
        except UsageError as error:
            print(f"| {name} | {error} | | | |")
            continue
        seconds = time.process_time() - begin
        session = onnxruntime.InferenceSession(data, options)
        difference = np.abs(onnx_logits(session, ids) - python_logits(model, ids)).max()
        begin = time.perf_counter()
        onnx_logits(session, ids[:, :1])
        speed = N_CHARS / (time.perf_counter() - begin)
        label = f"{name}, windows of {n_context}" if n_context else name
        print(f"| {label} | {len(data) / 1e6:.2f} | {seconds:.1f} | {difference:.0e} | {speed:,.0f} |", flush=True)


if __name__ == "__main__":
    main()

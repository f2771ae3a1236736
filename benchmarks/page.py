"""The page of `charlm export RUN page.html` against Python, in headless Chromium.

For the packaged model, and for each architecture that a page can run, with default options, random weights of float16
precision and the vocabulary of the default text: the page's size; the largest difference of a logit on 2,000
characters of the default text; how many of 100 texts of 200 characters are those of `charlm sample` with the same seed;
characters a second that the page writes, drawing included.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, require_text
from playwright.sync_api import Page, sync_playwright

from charlm.api import read_corpus
from charlm.data.named_texts import DEFAULT_TEXT
from charlm.generation.language_model import LanguageModel
from charlm.inspection.page import model_page
from charlm.models import build
from charlm.recipe import Recipe
from charlm.storage import runs
from charlm.storage.checkpoint import Metadata

ARCHITECTURES = ("char3", "loop", "concat", "rnn", "gru", "lstm", "rnn-scratch", "gru-scratch", "lstm-scratch")
PROMPT, N_TEXTS, N_CHARS = "supposing", 100, 200
LOGITS = (Path(__file__).parents[1] / "tests/inspection/logits.js").read_text("utf-8")
TEXTS = """([prompt, nTexts, n]) => Array.from({ length: nTexts }, (_, seed) => {
  restart();
  const ids = encode(prompt), options = { temperature: 0.8, topP: 1 };
  ids.forEach((id) => model.read(id));
  startSampling(BigInt(seed), ids);
  return Array.from(writing(n, options), (item) => item.symbol).join("");
})"""


def random_model(name: str, vocab: Any) -> LanguageModel:
    """Return a model with random weights, rounded to float16."""
    torch.manual_seed(0)
    model = build(name, len(vocab)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())
    symbols = vocab.codepoints.tolist()
    metadata = Metadata(name, model.config, len(vocab), symbols, False, model.n_context, corpus={"longest_line": 72})
    return LanguageModel(model, metadata)


def python_logits(model: LanguageModel, text: str) -> np.ndarray:
    """Return the logits before each character of a text and after the last one, (N + 1, V)."""
    n_context, stepper = model.metadata.n_context, model.stepper()
    ids = [model.vocab.bos_id] * (n_context or 1) + model.vocab.encode(text).tolist()
    rows = []
    for i in range(n_context or 1, len(ids) + 1):
        if n_context:
            stepper.reset()
        rows.append(stepper.read(ids[i - (n_context or 1) : i]))
    return np.array(rows)


def row(page: Page, name: str, model: LanguageModel, text: str, folder: Path) -> str:
    """Return the figures of a model as a line of a table."""
    path = folder / "page.html"
    path.write_text(model_page(model, name), "utf-8")
    page.goto(path.as_uri())
    difference = np.abs(np.array(page.evaluate(LOGITS, text)) - python_logits(model, text)).max()
    texts = page.evaluate(TEXTS, [PROMPT, N_TEXTS, N_CHARS])
    n_same = sum(model.sample(PROMPT, N_CHARS, seed=seed) == found for seed, found in enumerate(texts))
    page.fill("#length", "5000")
    page.click("#write")
    page.wait_for_selector("#stop:disabled", timeout=120_000)
    rate = page.inner_text("#status").split()[0]
    return f"| {name} | {path.stat().st_size / 1e6:.2f} MB | {difference:.0e} | {n_same} | {rate} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    require_text(DEFAULT_TEXT)
    torch.set_num_threads(1)
    corpus = read_corpus(Recipe(corpus=(DEFAULT_TEXT,)))
    text = corpus.vocab.decode(corpus.part("test")[:2000])
    print(machine())
    print("| model | page | largest difference of a logit | the same texts | characters a second |")
    print("| --- | --- | --- | --- | --- |")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        box = LanguageModel.load(runs.packaged_model())
        print(row(page, "the packaged model", box, text, Path(folder)), flush=True)
        for name in ARCHITECTURES:
            print(row(page, name, random_model(name, corpus.vocab), text, Path(folder)), flush=True)
        browser.close()

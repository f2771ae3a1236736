"""N-gram counts of characters and words learn what words and lines are."""

import math
import textwrap

import numpy as np
import torch

from charlm.data.corpus import make_corpus
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.training import session


def test_the_counts_learn_that_lines_end_after_forty_characters():
    words = "a dog and a cat and a man who had a bird and the other dog were on the way to town".split()
    text = textwrap.fill(" ".join(words[i * i % 19] for i in range(1200)), 40)
    recipe = Recipe().replace(model="word-ngram", options={"order": 3}, device="cpu")
    trained = session.train(recipe, make_corpus(text.encode(), "dogs"))
    blank, line_break = trained.vocab.encode(" \n").tolist()
    counts = trained.model.counts
    for start, is_end in (("\na cat", False), ("\nand who had the other dog and a cat had", True)):
        contexts, _ = counts.read(trained.vocab.encode(start).astype(np.int64)[None])
        _, by_words = counts.expert_probs(contexts[:, 0])
        assert (by_words[-1, line_break] > 5 * by_words[-1, blank]) == is_end


def test_words_lower_the_loss_on_english():
    sentences = [
        "the old dog sleeps in",
        "the sun and a cat",
        "sits near the old wall",
        "in the old town a dog",
        "runs",
    ]
    text = "\n".join(f"{sentences[i * i % 5]} {sentences[i * 3 % 4]}" for i in range(60))
    nats = {}
    for name in ("ngram", "word-ngram"):
        recipe = Recipe().replace(model=name, options={"order": 4}, device="cpu")
        nats[name] = session.train(recipe, make_corpus(text.encode(), "dogs")).metadata.result["valid_nats"]
    assert nats["word-ngram"] < nats["ngram"]


def test_a_checkpoint_holds_all_counts(tmp_path):
    corpus = make_corpus(b"a dog and a cat and a dog. " * 30, "dogs")
    trained = session.train(Recipe().replace(model="word-ngram", device="cpu"), corpus, tmp_path / "run")
    model, _ = checkpoint.load(tmp_path / "run" / "best.safetensors")
    chars = torch.randint(len(corpus.vocab), (2, 50))
    torch.testing.assert_close(model(chars)[0], trained.model(chars)[0], rtol=0, atol=0)
    assert math.isfinite(trained.metadata.result["valid_nats"])

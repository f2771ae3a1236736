"""Saliency of a trained model, and models on texts of known entropy.

python benchmarks/inspection.py saliency RUN [--places 200] [--length 32]
python benchmarks/inspection.py known FOLDER

`saliency` reads the validation part of the model's text. It explains the most probable character at places spread
evenly, by integrated gradients and by leaving out, and prints the error of completeness and Spearman's correlation of
their absolute values. `known` trains small models on texts of synthetic_texts.py into FOLDER (runs that
are there already are taken as they are) and prints bits per character on the test part beside the true entropy, and,
for copy and parity, where saliency (left out) lies.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

import charlm
from charlm.data import synthetic_texts
from charlm.evaluation.protocol import TextRange, eval_mode, evaluate
from charlm.experiments.trained_models import TrainedModel, read_text
from charlm.inspection.saliency import Context, integrated_gradients, left_out, rank_correlation
from charlm.storage import runs

WARMUP_CHARS = 96  # read before the characters whose importance is measured
MODELS = ("ngram", "char3", "rnn", "gru", "lstm")
TEXTS = {
    "markov:2": 4,
    "brackets:4": 4,
    "copy:8": 12,
    "parity:3": 6,
    "parity:8": 12,
}  # epochs of the recurrent networks
N_LINES = 50  # of copy and parity whose saliency is measured


def part_of(trained: TrainedModel, part: str) -> TextRange:
    """Return a part of the training text."""
    corpus = read_text(trained, (), print)
    first, stop = corpus.bounds[part]
    return TextRange(torch.as_tensor(corpus.ids), first, stop, corpus.vocab.bos_id)


def saliency(given: argparse.Namespace) -> None:
    """Print completeness and rank correlation."""
    trained = TrainedModel.load(runs.find_checkpoint(given.run, given.checkpoints), torch.device("cpu"))
    model, text, length = trained.model.model, part_of(trained, "valid"), given.length
    ids = text.ids.long()
    errors, correlations = [], []
    for place in np.linspace(text.first + length + WARMUP_CHARS, text.stop - 1, given.places).astype(int).tolist():
        before, chars = ids[place - length - WARMUP_CHARS : place - length], ids[place - length : place]
        with eval_mode(model):
            logits, _ = model(torch.cat([before, chars]).unsqueeze(0), only_last=True)
        context = Context(before, chars, int(logits[0, -1].argmax()))
        attributions, difference = integrated_gradients(model, context)
        errors.append(abs(attributions.sum() - difference) / abs(difference))
        correlations.append(rank_correlation(abs(attributions), abs(left_out(model, context))))
    within = sum(error <= 0.01 for error in errors) / len(errors)
    print(f"{given.run}: {given.places} places, {length} characters")
    print(f"completeness: median error {statistics.median(errors):.3%}, {within:.1%} of the places within 1 %")
    quarters = ", ".join(f"{value:.2f}" for value in statistics.quantiles(correlations, n=4))
    print(f"Spearman with leaving out: median {statistics.median(correlations):.3f} (quartiles {quarters})")


def known(given: argparse.Namespace) -> None:
    """Print bits per character beside the true entropy, and saliency."""
    print(f"{'text':12} {'entropy':>8} " + " ".join(f"{name:>8}" for name in MODELS))
    notes = []
    for text, n_epochs in TEXTS.items():
        kind, argument = text.split(":")
        cells = []
        for name in MODELS:
            folder = given.folder / f"{kind}{argument}-{name}"
            if not folder.exists():
                options = {} if name == "ngram" else {"n_hidden": 128}
                epochs = 2 if name == "char3" else n_epochs
                charlm.train(text, model=name, epochs=epochs, options=options, folder=folder)
            trained = TrainedModel.load(runs.find_checkpoint(str(folder)), torch.device("cpu"))
            part = part_of(trained, "test")
            cells.append(evaluate(trained.model.model, part, trained.model.metadata.n_context).bits_per_char)
            if kind in ("copy", "parity") and trained.model.metadata.n_context is None:
                notes.append(f"{text}, {name}: {deciding(trained, part, int(argument), kind)}")
        print(f"{text:12} {synthetic_texts.entropy(kind, argument):8.4f} " + " ".join(f"{c:8.4f}" for c in cells))
    print("\n".join(notes))


def deciding(trained: TrainedModel, part: TextRange, n: int, kind: str) -> str:
    """Return the share of saliency (left out, absolute bits) that lies where the answer is decided."""
    line = 2 * n + 2 if kind == "copy" else n + 3
    first = -(-part.first // line) * line  # of a line
    ids, model = part.ids.long(), trained.model.model
    shares, hits = [], 0
    for k in range(N_LINES):
        start = first + k * line
        places = range(start + n + 1, start + 2 * n + 1) if kind == "copy" else [start + n + 1]
        for place in places:
            before = ids[place - line - WARMUP_CHARS : place - line]
            bits = abs(left_out(model, Context(before, ids[place - line : place], int(ids[place]))))[::-1]  # by lag
            decides = [n] if kind == "copy" else list(range(1, n + 1))  # lag - 1
            shares.append(bits[decides].sum() / max(bits.sum(), 1e-12))
            hits += set(np.argsort(-bits)[: len(decides)]) == set(decides)
    where = f"the character {n + 1} before" if kind == "copy" else f"the {n} digits"
    return f"{where}: {np.mean(shares):.0%} of the saliency, the largest at {hits / len(shares):.0%} of the places"


def main() -> None:
    """Run one of the two."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("saliency")
    one.add_argument("run")
    one.add_argument("--places", type=int, default=200)
    one.add_argument("--length", type=int, default=32)
    one.add_argument("--checkpoints", type=Path, default=runs.FOLDER)
    one.set_defaults(call=saliency)
    two = commands.add_parser("known")
    two.add_argument("folder", type=Path)
    two.set_defaults(call=known)
    given = parser.parse_args()
    given.call(given)


if __name__ == "__main__":
    main()

"""Fine-tuning: the built-in model fine-tuned on another text, beside the same architecture from scratch.

    python benchmarks/finetuning.py TEXT [TEXT ...] --minutes 2

Each text gives one table: bits per character on its validation and test part for the model as it is, for training from
scratch, and for training on from its weights, at each learning rate and with the same budget. The learning rate is
chosen by the validation part.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import charlm
from charlm import recipes
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.evaluate import evaluate_models
from charlm.experiments.trained_models import TrainedModel
from charlm.storage import runs

MODEL = "nietzsche"


def as_it_is(text: str) -> list[str]:
    """Return the row of the built-in model."""
    models = [TrainedModel(runs.packaged_model(), charlm.load(MODEL))]
    nats = [evaluate_models(models, [text], part, None, None, print)["nats_per_char"] for part in ("valid", "test")]
    return ["as it is", "", *(f"{nats_to_bits(value):.3f}" for value in nats), "", ""]


def trained(text: str, rate: float, budget: dict[str, Any], **changes: Any) -> tuple[float, list[str]]:
    """Return the validation loss and the row of one training."""
    since = time.process_time()
    model = charlm.train(text, learning_rate=rate, **budget, **changes)
    seconds, result = time.process_time() - since, model.metadata.result
    name = "trained on" if "init_from" in changes else "from scratch"
    bits = [f"{nats_to_bits(result[f'{part}_nats']):.3f}" for part in ("valid", "test")]
    return result["valid_nats"], [name, f"{rate:g}", *bits, f"{result['n_chars']:,}", f"{seconds:.0f}"]


def main(texts: list[str], rates: list[float], scratch_rates: list[float], budget: dict[str, Any]) -> None:
    """Print a table for each text."""
    head = ["training", "rate", "valid", "test", "characters", "CPU s"]
    for text in texts:
        print(f"\n{Path(text).name}\n| " + " | ".join(head) + " |\n" + "| --- " * len(head) + "|", flush=True)
        print("| " + " | ".join(as_it_is(text)) + " |", flush=True)
        box = recipes.load(MODEL)
        scratch = {"model": box.model, "options": box.options, "clip": box.clip}
        for kind, tried in ((scratch, scratch_rates), ({"init_from": MODEL}, rates)):
            rows = []
            for rate in tried:
                rows.append(trained(text, rate, budget, **kind))
                print("| " + " | ".join(rows[-1][1]) + " |", flush=True)
            print(f"chosen by validation: {min(rows)[1][1]}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", help="files")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="learning rates of training on")
    parser.add_argument("--scratch-rates", type=float, nargs="+", default=[4e-3], help="learning rates from scratch")
    parser.add_argument("--minutes", type=float, default=2.0, help="budget of each training")
    parser.add_argument("--epochs", type=int, help="budget in epochs instead")
    given = parser.parse_args()
    budget = {"epochs": given.epochs} if given.epochs else {"minutes": given.minutes}
    main(given.texts, given.rates, given.scratch_rates, budget)

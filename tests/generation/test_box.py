"""The model in the box: small, there without training or network, and as good as it says."""

import subprocess
import sys

import pytest
import torch

import charlm
from charlm.data.corpus import make_corpus
from charlm.evaluation.metrics import evaluate
from charlm.storage import runs


@pytest.fixture(scope="module")
def box():
    return charlm.load(runs.packaged_model())


def test_the_box_is_at_most_two_megabytes():
    assert runs.packaged_model().stat().st_size <= 2_000_000


def test_the_box_is_found_by_name_and_where_there_are_no_runs(box, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert charlm.load("nietzsche").metadata == charlm.load().metadata == box.metadata


def test_the_box_writes_on_after_supposing(box):
    text = box.sample("supposing", length=300, temperature=0.8, seed=1)
    assert len(text) == 300
    assert text == box.sample("supposing", length=300, temperature=0.8, seed=1)
    words = text.split()[1:-1]
    common = {"the", "of", "and", "to", "in", "is", "a", "that", "as", "it", "which", "be", "for", "with", "not"}
    assert sum(word.strip(".,;:\"'-_()!?") in common for word in words) / len(words) > 0.15


def test_the_box_writes_without_torch(box):
    code = "import sys; from charlm.cli import main;\ntry: main()\n"
    code += "finally: print('torch' in sys.modules, file=sys.stderr)"
    options = [
        "sample",
        str(runs.packaged_model()),
        "--seed",
        "3",
        "--length",
        "60",
        "--prime",
        "supposing",
        "--num",
        "2",
    ]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    texts = ["supposing" + box.sample("supposing", 60, temperature=0.8, seed=seed) + "\n" for seed in (3, 4)]
    assert done.stdout == f"{'-' * 20}\n".join(texts)


def test_the_box_knows_its_text_and_how_it_was_trained(box):
    assert box.metadata.corpus["sha256"] == "23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647"
    assert box.metadata.corpus["n_chars"] == 600_893
    assert box.metadata.recipe["split"] == "standard"
    assert {"valid_nats", "test_nats"} <= box.metadata.result.keys()


def test_the_box_predicts_the_test_part_as_well_as_it_says(box, nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche", vocab=box.vocab)
    first, stop = corpus.bounds["test"]
    score = evaluate(
        box.model, torch.from_numpy(corpus.ids), first, stop, box.metadata.n_context, bos_id=box.vocab.bos_id
    )
    assert score.nats_per_char == pytest.approx(box.metadata.result["test_nats"], abs=0.01)


def test_the_box_prefers_its_author_to_noise(box):
    assert box.bits_per_char("The will to truth, which will tempt us to many a hazardous enterprise.") < 3
    assert box.bits_per_char("qxz vvk jjw zzq kxv wqj pzx") > 5

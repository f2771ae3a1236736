"""The packaged model: small, available without training or network, with the losses in its metadata."""

import subprocess
import sys

import pytest
import torch

import charlm
from charlm.data.corpus import make_corpus
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.storage import runs


@pytest.fixture(scope="module")
def packaged():
    return charlm.load(runs.packaged_model())


def test_the_packaged_model_is_at_most_two_megabytes():
    assert runs.packaged_model().stat().st_size <= 2_000_000


def test_the_packaged_model_is_found_by_name_and_when_there_are_no_runs(packaged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert charlm.load("nietzsche").metadata == charlm.load().metadata == packaged.metadata


def test_the_packaged_model_continues_a_prompt_with_common_words(packaged):
    text = packaged.sample("supposing", length=300, temperature=0.8, seed=1)
    assert len(text) == 300
    assert text == packaged.sample("supposing", length=300, temperature=0.8, seed=1)
    words = text.split()[1:-1]
    common = {"the", "of", "and", "to", "in", "is", "a", "that", "as", "it", "which", "be", "for", "with", "not"}
    assert sum(word.strip(".,;:\"'-_()!?") in common for word in words) / len(words) > 0.15


def test_the_probabilities_of_the_next_character_have_the_sum_1_and_the_likeliest_first(packaged):
    probs = packaged.probs("supposing that trut")
    assert next(iter(probs)) == "h" and list(probs.values()) == sorted(probs.values(), reverse=True)
    assert set(probs) == set(packaged.vocab.symbols) and 0.99 < sum(probs.values()) <= 1
    assert packaged.sample("supposing that trut", 1, temperature=0) == "h"


def test_the_repr_is_one_short_line(packaged):
    assert len(repr(packaged)) < 120 and packaged.metadata.model in repr(packaged) and "\n" not in repr(packaged)


def test_the_defaults_of_python_are_those_of_the_command_line(packaged):
    assert packaged.sample("supposing", seed=1) == packaged.sample("supposing", 500, seed=1, temperature=0.8)


def test_the_packaged_model_samples_without_torch(packaged):
    code = "import sys; from charlm.cli import main;\ntry: main()\n"
    code += "finally: print('torch' in sys.modules, file=sys.stderr)"
    options = f"sample {runs.packaged_model()} --seed 3 --length 60 --prime supposing --num 2".split()
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    texts = ["supposing" + packaged.sample("supposing", 60, temperature=0.8, seed=seed) + "\n" for seed in (3, 4)]
    assert done.stdout == f"{'-' * 20}\n".join(texts)


def test_the_metadata_name_the_text_and_the_training(packaged):
    assert packaged.metadata.corpus["sha256"] == "23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647"
    assert packaged.metadata.corpus["n_chars"] == 600_893
    assert packaged.metadata.recipe["split"] == "standard"
    assert {"valid_nats", "test_nats"} <= packaged.metadata.result.keys()


def test_the_loss_on_the_test_part_is_that_of_the_metadata(packaged, nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche", vocab=packaged.vocab)
    text = TextRange(torch.from_numpy(corpus.ids), *corpus.bounds["test"], packaged.vocab.bos_id)
    score = evaluate(packaged.model, text, packaged.metadata.n_context)
    assert score.nats_per_char == pytest.approx(packaged.metadata.result["test_nats"], abs=0.01)


def test_english_takes_fewer_bits_than_random_letters(packaged):
    assert packaged.bits_per_char("The will to truth, which will tempt us to many a hazardous enterprise.") < 3
    assert packaged.bits_per_char("qxz vvk jjw zzq kxv wqj pzx") > 5

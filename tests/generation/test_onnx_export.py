"""ONNX export: ONNX Runtime computes the logits of the model, and the sampler of docs/export.md needs nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, known_options, make_model
from torch import nn

from charlm.data.vocab import Vocab
from charlm.errors import UsageError
from charlm.generation import LanguageModel, onnx_model
from charlm.generation.onnx_export import initial_state
from charlm.models import CharModel, CountingModel
from charlm.storage import Metadata, runs

ort = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.usefixtures("example_model")

TEXT = "one two three\nvier fünf sechs"
DOCS = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")
SAMPLER = re.search(r"<!-- sampler -->\n```python\n(.*?)```", DOCS, re.DOTALL)[1]
BLOCKED = "import sys\nsys.modules |= dict.fromkeys({})\n"  # None: importing one fails
SIZES = {"n_embed": 6, "n_hidden": 8, "n_layers": 2, "head_size": 4, "window_size": 5, "n_state": 4}
COUNTING = sorted(name for name, cls in ARCHITECTURES.items() if issubclass(cls, CountingModel))
ALIKE = {"rnn-scratch", "gru-scratch", "lstm-scratch", "awd-lstm", "mogrifier", "min-lstm"}  # each takes seconds
NETWORKS = [
    pytest.param(name, marks=pytest.mark.long if name in ALIKE else ())
    for name in ARCHITECTURES
    if name not in COUNTING
]


def wrap(model, vocab, n_context=None, **recipe):
    """Return a model as a language model."""
    symbols, window = vocab.codepoints.tolist(), n_context or model.n_context
    config = getattr(model, "config", {})
    return LanguageModel(
        model.eval(), Metadata(model.name, config, len(vocab), symbols, vocab.is_bytes, window, recipe)
    )


def make(name, n_context=None, is_bytes=False, **recipe):
    """Return a small language model with random weights."""
    vocab = Vocab.of_bytes() if is_bytes else Vocab(map(ord, TEXT))
    model = make_model(name, len(vocab), **known_options(name, SIZES))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)  # random weights alone give logits near 0
    return wrap(model, vocab, n_context, **recipe)


def difference(model, n_chars=1000, n_texts=2):
    """Return the largest difference of a logit from the model's over random texts that are read in lockstep."""
    session, n_context = ort.InferenceSession(onnx_model(model)), model.metadata.n_context
    state, stepper = initial_state(session, n_texts), model.stepper(n_texts)
    window, largest = [np.full(n_texts, model.vocab.bos_id)] * (n_context or 1), 0.0
    for chars in np.random.default_rng(1).integers(0, len(model.vocab), (n_chars, n_texts)):
        logits, *after = session.run(None, {"chars": chars, **state})
        state = dict(zip(state, after, strict=True))
        window = [*window[1:], chars]
        if n_context:
            stepper.reset()
        largest = max(largest, np.abs(logits - stepper.read(window)).max())
    return largest


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_computes_the_logits_of_the_model(name):
    assert difference(make(name)) < 1e-4


@pytest.mark.parametrize(
    ("name", "n_context"), [("loop", 1), ("lstm", 4), pytest.param("transformer", 7, marks=pytest.mark.long)]
)
def test_windows_are_read_anew_for_each_character(name, n_context):
    assert difference(make(name, n_context), n_chars=50) < 1e-4


@pytest.mark.parametrize("name", COUNTING)
def test_a_model_that_counts_is_refused(name):
    with pytest.raises(UsageError, match=f"^{name} cannot be exported to ONNX: it reads counts; .*without counts$"):
        onnx_model(make(name))


def test_a_long_window_is_refused():
    with pytest.raises(UsageError, match="its window has 65 characters, at most 64 are possible; train with --feed"):
        onnx_model(make("rnn", 65))


class Unusual(CharModel):
    """A model that PyTorch cannot export, or one whose state before a text is not zeros."""

    name = "unusual"

    def __init__(self, vocab_size, is_exportable):
        super().__init__()
        self.embed, self.head = nn.Embedding(vocab_size, 4), nn.Linear(4, vocab_size)
        self.is_exportable = is_exportable

    def features(self, chars, state=None):
        features = self.embed(chars)
        if not self.is_exportable and features.sum().item() > 0:
            features = -features
        state = features.new_ones(len(chars), 4) if state is None else state
        return features * state.unsqueeze(1), state


@pytest.mark.parametrize(
    ("is_exportable", "message"), [(False, "cannot be exported to ONNX: TorchExportError"), (True, "would differ by")]
)
def test_an_export_that_is_impossible_or_wrong_is_one_line(is_exportable, message):
    vocab = Vocab(map(ord, TEXT))
    with pytest.raises(UsageError, match=message) as error:
        onnx_model(wrap(Unusual(len(vocab), is_exportable), vocab))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_logits_that_are_not_finite_are_refused():
    model = make("rnn")
    with torch.no_grad():
        model.model.embed.weight.fill_(torch.nan)
    with pytest.raises(UsageError, match="its logits would differ by nan"):
        onnx_model(model)


def test_the_metadata_hold_options_vocabulary_and_text():
    session = ort.InferenceSession(onnx_model(LanguageModel.load(runs.packaged_model())))
    about = json.loads(session.get_modelmeta().custom_metadata_map["charlm"])
    assert (about["model"], about["options"]["n_hidden"], about["corpus"]["name"]) == ("gru", 512, "nietzsche")
    assert chr(about["symbols"][about["bos_id"] - 1]) == "\n" and not about["is_bytes"] and not about["lower"]


@pytest.mark.parametrize(
    ("name", "options", "prompt"),
    [
        ("gru-scratch", {"lower": True}, "One Two"),
        ("rnn", {"is_bytes": True}, "fünf"),
        ("char3", {}, "one"),
        ("transformer", {}, "one?"),
    ],
)
def test_the_sampler_of_the_docs_needs_numpy_and_onnxruntime_alone(name, options, prompt, tmp_path):
    model = make(name, **options)
    (tmp_path / "model.onnx").write_bytes(onnx_model(model))
    blocked = BLOCKED.format(["torch", "charlm", "onnx", "onnxscript"])
    command = [sys.executable, "-X", "utf8", "-c", blocked + SAMPLER, "model.onnx", prompt]
    written = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert written == model.sample(prompt, 500, temperature=0.8, seed=1, unknown="map") + "\n"


def test_without_the_extra_one_line_names_it(tmp_path):
    code = BLOCKED.format(["onnxscript"]) + "from charlm.cli import main; main()"
    command = [sys.executable, "-c", code, "export", str(runs.packaged_model()), "model.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = "charlm: ONNX export needs onnxscript; pip install 'charlm-torch[onnx]'\n"
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (2, expected, [])

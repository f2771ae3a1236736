"""The page of `charlm export RUN page.html`: it computes what Python computes, and makes no request."""

from pathlib import Path

import numpy as np
import pytest
import torch

from charlm.data.vocab import Vocab
from charlm.errors import UsageError
from charlm.generation.language_model import LanguageModel
from charlm.generation.numpy_generator import load_numpy
from charlm.inspection.embedding import principal_components
from charlm.inspection.page import MAX_FLOAT16_COST, float16_cost, model_page
from charlm.models import MODELS, build
from charlm.storage import runs
from charlm.storage.checkpoint import Metadata

TEXT = 'We Philologists are of to-day; and tomorrow? </script><b>no</b> \u202e\u00e9\u0007\n"Perhaps", he said. '
OPTIONS = {
    "char3": {},
    "loop": {},
    "concat": {},
    "rnn": {"n_layers": 2},
    "gru": {"n_layers": 2, "tied": True},
    "lstm": {"n_layers": 2},
    "rnn-scratch": {"nonlinearity": "relu"},
    "gru-scratch": {},
    "lstm-scratch": {"tied": True},
    "awd-lstm": {},
}
LOGITS, CONTRAST = ((Path(__file__).parent / name).read_text("utf-8") for name in ("logits.js", "contrast.js"))


def make(name, options=None, is_bytes=False, n_context=None):
    """Return a language model with random weights, rounded to float16."""
    torch.manual_seed(1)
    vocab = Vocab.of_bytes() if is_bytes else Vocab(map(ord, TEXT + "supozng"))
    model = build(name, len(vocab), **{"n_embed": 8, "n_hidden": 12} | (options or {})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2).copy_(weight.half())
    n_context = n_context or model.n_context
    metadata = Metadata(name, model.config, len(vocab), vocab.codepoints.tolist(), is_bytes, n_context)
    return LanguageModel(model, metadata)


def write(model, folder, title="a page"):
    """Write a model's page and return its path."""
    path = folder / "page.html"
    path.write_text(model_page(model, title), "utf-8")
    return path


def press(page, button):
    """Press a button and wait for the end of what it starts."""
    page.click(button)
    page.wait_for_selector("#stop:disabled")


def python_logits(model, text):
    """Return the logits before each character of a text and after the last one, (N + 1, V)."""
    n_context = model.metadata.n_context
    ids = [model.vocab.bos_id] * (n_context or 1) + model.vocab.encode(text).tolist()
    rows = []
    for i in range(n_context or 1, len(ids) + 1):
        rows.append(model.stepper().read(ids[i - n_context : i] if n_context else ids[:i]))
    return np.array(rows)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_page_computes_the_logits_of_python(name, tmp_path, open_page):
    model = make(name, OPTIONS[name])
    page, _ = open_page(write(model, tmp_path))
    logits = np.array(page.evaluate(LOGITS, TEXT))
    np.testing.assert_allclose(logits, python_logits(model, TEXT), atol=1e-4)


@pytest.mark.parametrize(("is_bytes", "n_context"), [(True, None), (False, 5)])
def test_bytes_and_windows_are_read_as_in_python(is_bytes, n_context, tmp_path, open_page):
    model = make("loop", is_bytes=is_bytes, n_context=n_context)
    page, _ = open_page(write(model, tmp_path))
    logits = np.array(page.evaluate(LOGITS, TEXT))
    np.testing.assert_allclose(logits, python_logits(model, TEXT), atol=1e-4)


def test_a_seed_gives_the_text_of_python(tmp_path, open_page):
    model = make("gru")
    page, _ = open_page(write(model, tmp_path))
    for seed, temperature, top_p in [(0, 1.0, 1.0), (2**64 - 1, 0.5, 0.8), (7, 0.0, 1.0)]:
        script = f"""() => {{
          restart(); for (const id of encode("supposing")) model.read(id);
          const draw = uniformStream({seed}n), ids = [];
          for (let i = 0; i < 200; i++) {{
            const options = {{ temperature: {temperature}, topP: {top_p} }};
            ids.push(sampleIndex(unnormalizedProbs(model.logits(), options), draw()));
            model.read(ids[i]);
          }}
          return ids;
        }}"""
        written = model.vocab.decode(page.evaluate(script))
        expected = model.sample("supposing", 200, seed=seed, temperature=temperature, top_p=top_p)
        assert written == expected


def test_the_packaged_model_writes_in_a_page_that_makes_no_request(tmp_path, open_page):
    model = load_numpy(runs.packaged_model())
    path = write(model, tmp_path)
    assert path.stat().st_size < 3e6
    page, events = open_page(path)
    page.fill("#input", "supposing")
    page.fill("#length", "100")
    press(page, "#write")
    assert page.text_content("#text") == "supposing" + model.sample("supposing", 100, seed=1, temperature=0.7)
    page.click("#text")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#details strong") == "u"
    assert len(page.query_selector_all("#details li")) == 8
    assert events == [f"request: {path.as_uri()}"]


def test_continuing_gives_the_text_of_one_longer_sample(tmp_path, open_page):
    model = load_numpy(runs.packaged_model())
    page, _ = open_page(write(model, tmp_path))
    assert page.is_disabled("#continue")
    page.fill("#input", "supposing")
    page.fill("#length", "40")
    press(page, "#write")
    press(page, "#continue")
    expected = "supposing" + model.sample("supposing", 80, seed=1, temperature=0.7)
    assert page.text_content("#text") == expected
    press(page, "#measure")
    assert page.text_content("#text") == "supposing"
    press(page, "#continue")
    assert page.text_content("#text") == expected[: len("supposing") + 40]


def test_long_lines_end_as_in_python(tmp_path, open_page):
    model = make("gru", {"tied": True})
    model.metadata.corpus["longest_line"] = 9
    page, _ = open_page(write(model, tmp_path))
    for prompt in ("", "We Phil", "We Philologists are of", "tomorrow\nand"):
        page.fill("#input", prompt)
        page.fill("#length", "200")
        press(page, "#write")
        expected = prompt + model.sample(prompt, 200, seed=1, temperature=0.7)
        assert page.evaluate("() => view.items.map((item) => item.symbol).join('')") == expected
        assert max(map(len, expected.splitlines()[3:])) == 11


def test_the_page_works_with_the_keyboard_alone(tmp_path, open_page):
    page, _ = open_page(write(make("rnn"), tmp_path))
    focused = "() => document.activeElement.id"

    def tab_to(name):
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == name:
                return
        raise AssertionError(f"Tab does not reach {name}")

    tab_to("input")
    page.keyboard.type("We are")
    tab_to("seed")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("7")
    tab_to("length")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("20")
    tab_to("write")
    page.keyboard.press("Enter")
    page.wait_for_function("() => view.items.length === 26")
    assert page.evaluate(focused) == "write"
    tab_to("continue")
    page.keyboard.press("Space")
    page.wait_for_function("() => view.items.length === 46")
    tab_to("text")
    for key, position in [("Home", 0), ("ArrowRight", 1), ("End", 45), ("ArrowLeft", 44), ("Home", 0), ("ArrowUp", 0)]:
        page.keyboard.press(key)
        assert page.evaluate("() => view.selected") == position
    assert page.inner_text("#details strong") == "W"
    assert page.get_attribute("#details", "aria-live") == "polite"


def test_arrow_keys_move_between_the_rows_of_the_text(tmp_path, open_page):
    page, _ = open_page(write(make("rnn"), tmp_path))
    page.fill("#input", "are\nof to-day\n\nand tomorrow")
    press(page, "#measure")
    page.focus("#text")
    page.evaluate("() => view.select(2)")
    found = []
    for key in ["Down", "Down", "Down", "Down", "Up", "Up"]:
        page.keyboard.press(f"Arrow{key}")
        found.append(page.evaluate("() => view.selected"))
    assert found == [6, 14, 15, 15, 14, 4]


def test_every_control_has_a_name(tmp_path, open_page):
    page, _ = open_page(write(make("rnn"), tmp_path))
    names = page.evaluate(
        """() => Array.from(document.querySelectorAll("input, select, textarea, button, [role], svg"),
          (node) => node.labels?.[0]?.textContent.trim() || node.getAttribute("aria-label") || node.textContent.trim()
            || (node.getAttribute("role") === "status" ? "status" : ""))"""
    )
    assert len(names) > 10 and all(names)


def test_markup_and_control_characters_in_texts_have_no_effect(tmp_path, open_page):
    model = make("gru")
    page, events = open_page(write(model, tmp_path, "</script><script>alert(1)</script>"))
    page.fill("#input", TEXT + "<img src=x onerror=alert(1)>\U0001f600")
    press(page, "#measure")
    assert "unknown to the model" in page.inner_text("#status")
    assert page.query_selector_all("#text b, #text img") == []
    assert "U+202E" in page.inner_text("#text")
    assert page.inner_text("h1") == "</script><script>alert(1)</script>"
    assert page.evaluate("() => document.querySelectorAll('script').length") == 2
    assert [event for event in events if not event.startswith("request: file:")] == []


def test_a_title_that_is_not_unicode_is_escaped():
    assert b"<title>caf\\udce9</title>" in model_page(make("rnn"), "caf\udce9").encode()


def test_an_embedding_of_one_number_is_a_line_on_the_map(tmp_path, open_page):
    page, events = open_page(write(make("rnn", {"n_embed": 1}), tmp_path))
    assert len(events) == 1
    places = page.eval_on_selector_all(
        "#embedding text", "all => all.map((one) => [one.x.baseVal[0].value, one.y.baseVal[0].value])"
    )
    assert len({x for x, _ in places}) > 10 and {y for _, y in places} == {320}


def test_the_map_is_described_by_the_characters_at_its_ends(tmp_path, open_page):
    model = make("rnn")
    page, _ = open_page(write(model, tmp_path))
    label = page.get_attribute("#embedding", "aria-label")
    names = {" ": "space", "\n": "line break"}
    coordinates, _ = principal_components(model.stepper().layers.inputs.embed[1:])
    leftmost = [model.vocab.symbols[i] for i in np.argsort(coordinates[:, 0], kind="stable")[:10]]
    assert f"From the left: {' '.join(names.get(symbol, symbol) for symbol in leftmost)}. From the right: " in label
    assert label.startswith(f"Map of the embedding: {len(model.vocab) - 1} characters. ")


def test_a_text_that_is_begun_anew_has_one_loop_of_work(tmp_path, open_page):
    page, _ = open_page(write(make("gru", {"n_hidden": 64}), tmp_path))
    page.fill("#length", "20000")
    script = """(names) => new Promise((done) => {
      names.forEach((name) => byId(name).click());
      let n = 0;
      channel.port1.addEventListener("message", ({ data }) => (data === "marker" ? done(n) : n++));
      channel.port2.postMessage("marker");
    })"""
    for names in (["write"] * 3, ["stop", "write", "write"]):
        assert page.evaluate(script, names) == 1  # message before the marker
        page.click("#stop")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_the_text_and_of_a_curve_has_enough_contrast(scheme, tmp_path, open_page):
    page, _ = open_page(write(make("rnn"), tmp_path), color_scheme=scheme)
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) == 3 * 17 + 6 and {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_wrong_options_are_said_on_the_page(tmp_path, open_page):
    page, _ = open_page(write(make("rnn"), tmp_path))
    page.fill("#length", "1.5")
    page.click("#write")
    assert "number of characters must be a whole number" in page.inner_text("#status")
    page.fill("#seed", "-1")
    page.click("#write")
    assert "seed must be a whole number" in page.inner_text("#status")


def test_the_page_fits_a_telephone(tmp_path, open_page):
    page, _ = open_page(write(make("rnn"), tmp_path), viewport={"width": 360, "height": 700})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(OPTIONS)))
def test_other_architectures_are_refused_in_one_line(name):
    vocab = Vocab(map(ord, TEXT))
    model = build(name, len(vocab))
    metadata = Metadata(name, model.config, len(vocab), vocab.codepoints.tolist(), False, model.n_context)
    with pytest.raises(UsageError, match="a page cannot run .*; it can run char3"):
        model_page(LanguageModel(model, metadata), "a page")


def test_float16_is_used_only_where_it_costs_no_bits():
    model = make("lstm")
    assert float16_cost(model.stepper(), model) == 0
    with torch.no_grad():
        model.model.head[2].weight.mul_(1.0001)
    assert 0 < float16_cost(model.stepper(), model) < MAX_FLOAT16_COST
    with torch.no_grad():
        model.model.head[2].weight[1, 1] = 1e6
    assert not float16_cost(model.stepper(), model) <= MAX_FLOAT16_COST

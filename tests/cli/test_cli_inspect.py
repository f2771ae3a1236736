"""`charlm inspect`: the sections of each kind of model, as JSON and as a page."""

import json
import math

import pytest

from charlm.inspection.inspect_page import inspect_page

TRAIN = "train --corpus text.txt --device cpu"
RUNS = {
    "counts": "--model ngram",
    "net": "--model gru --epochs 2 --n-hidden 16 --n-layers 2",
    "window": "--model char3 --epochs 1 --n-hidden 16",
    "both": "--model lstm-ngram --epochs 1 --n-hidden 16",
}
TEXT = "twenty-one </script><b>two</b>\n" * 20


def sections(call, line):
    return json.loads(call(f"inspect {line} --corpus text.txt --json")[0])


def omitted(found):
    return {name for name, section in found.items() if isinstance(section, dict) and "omitted" in section}


def test_a_recurrent_network_has_all_sections_except_experts(call):
    pytest.importorskip("captum", reason="captum is not installed")
    found = sections(call, "net")
    assert omitted(found) == {"experts"}
    assert all(math.isfinite(bits) for _, bits in found["curves"]["valid"])
    assert len(found["gradient_flow"]["norms"][0]) == 2  # layers
    places = found["saliency"]["places"]
    assert all(
        sum(place["integrated"]) == pytest.approx(place["logit_difference"], rel=0.02, abs=0.02) for place in places
    )
    assert sum(found["saliency"]["by_lag"]["left_out"]) == pytest.approx(1, abs=1e-3)
    assert found["units"]["n_units"] == 16
    biases = [bias for _, bias in found["head"]["biases"]]
    assert biases == sorted(biases, reverse=True)


def test_other_models_have_the_sections_that_exist(call):
    found = sections(call, "counts")
    assert omitted(found) == {"curves", "embedding", "head", "units", "gradient_flow", "experts"}
    assert found["saliency"]["note"] == "ngram counts n-grams; integrated gradients need a model without counts"
    assert max(found["saliency"]["by_lag"]["left_out"][7:]) < 1e-4  # 7-grams
    assert omitted(sections(call, "window")) == {"gradient_flow", "experts"}
    found = sections(call, "both")
    assert omitted(found) == set()
    assert len(found["experts"]["weights"]) == len(found["experts"]["names"]) == 9


def test_the_table_lists_units_and_reasons_are_on_stderr(call):
    out, err = call("inspect window --corpus text.txt")
    assert out.splitlines()[0].split() == ["property", "unit", "sign", "AUC", "shuffled"]
    assert "gradient flow left out: char3: gradient flow needs a model that carries a state" in err


def test_the_page_shows_the_activation_of_a_unit(call, tmp_path, open_page):
    call(f"inspect net --corpus text.txt --html {tmp_path / 'a.html'}")
    page, _ = open_page(tmp_path / "a.html")
    page.focus("#units-text")
    page.keyboard.press("Home")
    unit = sections(call, "net")["units"]["activations"][page.input_value("#unit")]
    assert page.inner_text("#units-details p") == f"activation {unit[0]:.2f}"


def test_a_curve_of_one_point_is_a_dot_and_norms_that_are_not_finite_are_left_out(tmp_path, open_page):
    sections = {
        "curves": {"train": [[100, 2.5]], "valid": []},
        "gradient_flow": {"lags": [1, 2], "norms": [[0.5], [None]]},
        "embedding": {"omitted": "a"},
    }
    (tmp_path / "a.html").write_text(inspect_page("a", "b", sections), "utf-8")
    page, events = open_page(tmp_path / "a.html")
    assert len(events) == 1
    for chart in ("curves", "flow"):
        dot = page.query_selector(f"#{chart}-chart .line")
        style = dot.evaluate("(line) => [getComputedStyle(line).strokeWidth, getComputedStyle(line).strokeLinecap]")
        assert style == ["8px", "round"] and dot.get_attribute("d").endswith("h0")


def test_two_outputs_at_once_are_refused(exit_code, home, capsys):
    assert exit_code("inspect net --json --html a.html") == 2


def test_the_page_shows_each_section_and_its_texts_have_no_effect(call, tmp_path, open_page):
    (tmp_path / "<b>a<b>.txt").write_text(TEXT, "utf-8")
    call(f"inspect both --corpus '{tmp_path}/<b>a<b>.txt' --html {tmp_path / 'a.html'}")
    page, events = open_page(tmp_path / "a.html", viewport={"width": 380, "height": 800})
    assert events == [f"request: {(tmp_path / 'a.html').as_uri()}"]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 380
    assert page.evaluate("() => document.querySelectorAll('section[hidden]').length") == 1  # nothing is left out
    assert len(page.query_selector_all("#flow-chart .line")) == 1
    assert "<b>a<b>.txt" in page.inner_text("#summary")
    assert page.query_selector_all("b") == []
    assert page.inner_text("#experts-text").startswith("twenty-one \ufffd")  # what the model does not know
    page.focus("#saliency-text")
    page.keyboard.press("End")
    assert "most probable here" in page.inner_text("#saliency-details")
    page.keyboard.press("Home")
    assert "only read" in page.inner_text("#saliency-details")
    before = page.inner_html("#experts-text")
    page.select_option("#expert", "3")
    assert page.inner_html("#experts-text") != before

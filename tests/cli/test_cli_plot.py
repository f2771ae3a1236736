"""`charlm plot`: the text in its SVG files."""

import re
from pathlib import Path

import pytest

from charlm.experiments.plots import figure, label_ends

TRAIN = "train --corpus text.txt --device cpu"
RUNS = {"counts": "--model ngram", "net": "--model rnn --epochs 2"}


def texts(path):
    """Return the texts of an SVG file."""
    return re.findall(r"<text[^>]*>(.*?)</text>", Path(path).read_text("utf-8"), re.DOTALL)


def test_the_curves_of_all_runs_are_labelled_at_their_ends(call):
    out, err = call("plot -o curves.svg")
    found = texts("curves.svg")
    labels = [text for text in found if re.fullmatch(r"(counts|net) \d\.\d{3}", text)]
    assert len(labels) == 2
    assert {"text, split: text.txt, standard", "training characters, millions"} <= set(found)
    assert any(text.startswith("budget: ") and "2 epochs" in text for text in found)
    assert any(text.startswith("bits per character") for text in found)
    assert (out, err) == ("", "charlm: plot: curves.svg\n")


def test_one_run_is_plotted_over_seconds(call):
    call("plot net --over seconds -o a.svg")
    found = texts("a.svg")
    assert "seconds of training" in found
    assert not any(text.startswith("counts") for text in found)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("SVG", b"<?xml")])
def test_the_name_of_the_file_decides_on_its_format(suffix, start, call):
    call(f"plot -o sub/a.{suffix}")
    assert Path(f"sub/a.{suffix}").read_bytes().startswith(start)


def test_runs_of_different_texts_are_named_in_one_line(call):
    Path("checkpoints/other").mkdir()
    recipe = Path("checkpoints/net/recipe.toml").read_text().replace("text.txt", "another.txt")
    Path("checkpoints/other/recipe.toml").write_text(recipe)
    Path("checkpoints/other/metrics.jsonl").write_bytes(Path("checkpoints/net/metrics.jsonl").read_bytes())
    _, err = call("plot -o a.svg")
    assert err.splitlines()[0].endswith("different texts or splits: their curves are not comparable")
    assert len(err.splitlines()) == 2


def test_runs_without_measurements_are_left_out(call, exit_code, capsys):
    Path("checkpoints/empty").mkdir()
    Path("checkpoints/empty/recipe.toml").write_bytes(Path("checkpoints/net/recipe.toml").read_bytes())
    Path("checkpoints/empty/metrics.jsonl").touch()
    assert "left out: checkpoints/empty: nothing was measured yet" in call("plot -o a.svg")[1]
    assert exit_code("plot empty -o b.svg") == 1
    assert "no run with measurements" in capsys.readouterr().err


def test_the_embedding_is_a_map_of_the_characters(call, exit_code, capsys):
    call("plot net --embedding -o a.svg")
    found = texts("a.svg")
    assert {"o", "n", "e", "↵"} <= set(found)
    assert any(re.fullmatch(r"first principal component, \d+% of the variance", text) for text in found)
    assert "Embedding of net (rnn, text.txt)" in found
    assert exit_code("plot counts --embedding -o b.svg") == 2
    assert "counts: ngram has no embedding" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["plot -o a.gif", "plot net counts --embedding", "plot net --embedding --over chars"])
def test_wrong_options_are_refused(line, home, exit_code):
    assert exit_code(line) == 2


def test_labels_of_equal_curves_do_not_cover_each_other(tmp_path):
    with figure(tmp_path / "a.svg", 4, 3) as axes:
        axes.set(xlim=(0, 1), ylim=(0, 10))
        label_ends(axes, [(1, 5, "a", "black"), (1, 5, "b", "black"), (1, 5.1, "c", "black"), (1, 9, "d", "black")])
        heights = [text.xy[1] for text in axes.texts]
    assert heights[0] == 5 and heights[3] == 9
    assert all(above - below >= 0.4 for below, above in zip(heights, heights[1:], strict=False))


def test_a_label_is_not_moved_by_one_that_is_far_to_the_left(tmp_path):
    with figure(tmp_path / "a.svg", 4, 3) as axes:
        axes.set(xlim=(0, 1), ylim=(0, 10))
        label_ends(axes, [(0.3, 5, "a", "black"), (1, 5, "b", "black")])
        assert [text.xy[1] for text in axes.texts] == [5, 5]


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_same_figure_is_the_same_file(tmp_path, suffix):
    for name in "ab":
        with figure(tmp_path / f"{name}{suffix}", 4, 3) as axes:
            axes.fill_between([0, 1], [0, 1], [1, 2])
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()

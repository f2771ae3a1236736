"""Output of a benchmark: everything again from results.json; LaTeX that compiles; reproduction."""

import csv
import json
import re
import shutil
import subprocess
from io import StringIO

import pytest

from charlm.errors import CharlmError, DataError, InputNotFoundError
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.bench import Contest, Results, Tuning, parse_space, reproduce, run_contest
from charlm.experiments.bench import report as reports
from charlm.experiments.bench.figures import curve_band
from charlm.experiments.bench.latex import escape, latex
from charlm.experiments.bench.reproduction import prediction_interval
from charlm.experiments.bench.tables import caption, csv_text, tables_of

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 40
SHARED = {"epochs": 2, "batch_size": 4, "bptt": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a benchmark of two entries with two seeds, tuned in two trials."""
    path = tmp_path_factory.mktemp("bench")
    (path / "cats_&_dogs.txt").write_text(TEXT)
    tuning = Tuning(parse_space("learning_rate=1e-3..1e-1"), 2)
    changes = SHARED | {"corpus": [str(path / "cats_&_dogs.txt")]}
    names = ["rnn:n_layers=2", "gru"]
    run_contest(Contest(names, changes, 2, 1500, tuning=tuning, sample_seconds=0.01), path / "x", lambda message: None)
    reports.write_report(Results.load(path / "x"), path / "x")
    return path / "x"


@pytest.fixture
def results(folder):
    return Results.load(folder)


def test_tables_and_figures_are_made_again_from_the_one_file(folder, tmp_path, exit_code, capsys):
    shutil.copy(folder / "results.json", tmp_path)
    assert exit_code(f"bench --from {tmp_path} --markdown") == 0
    out, err = capsys.readouterr()
    assert out == (folder / "table.md").read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results.json", "table.md", "table.tex", "rows.csv"),
        *("scatter.svg", "scatter.pdf", "curves.svg", "curves.pdf"),
    }
    assert f"files: {tmp_path}/ results.json" in err
    for name in ("table.md", "table.tex", "rows.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_page_of_record_is_made_from_results_alone_and_names_missing_rows(results, tmp_path, page_of_record):
    results.rows = [row for row in results.rows if (row["entry"], row.get("seed")) != ("gru", 1)]
    results.save(tmp_path / "results")
    (tmp_path / "results" / "results.json").rename(tmp_path / "results" / "cats.json")
    page_of_record(["page", str(tmp_path / "results")])
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "## cats" in page and "; seed 1 of rnn, gru, " in page
    assert "| rnn:n_layers=2 |" in page and "95 % intervals" in page
    for link in re.findall(r"\]\((results/[^)]*)\)", page):
        assert (tmp_path / link).read_text("utf-8").startswith("<?xml")


def test_the_page_of_record_has_one_table_of_all_texts(results, tmp_path, page_of_record):
    for name in ("nietzsche", "bible-kjv"):
        results.save(tmp_path)
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results.json").rename(tmp_path / "results" / f"{name}.json")
        results.rows = [row for row in results.rows if row["entry"] != "gru"]
    page_of_record(["page", str(tmp_path / "results")])
    section = (tmp_path / "results.md").read_text("utf-8").split("## All texts")[1].split("\n## ")[0]
    assert "| model | nietzsche | bible-kjv |" in section
    assert re.search(r"\n\| gru \| \d\.\d{3} ± \d\.\d{3} \| - \|\n", section)
    assert re.search(r"\n\| xz \| (\d\.\d{3}) \| \1 \|\n", section)


def test_a_page_of_record_without_results_is_refused(tmp_path, page_of_record, capsys):
    with pytest.raises(SystemExit) as refused:
        page_of_record(["page", str(tmp_path / "results")])
    assert refused.value.code == 66 and "results: has no .json files" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_of_record_writes_the_table_of_the_readme(results, tmp_path, page_of_record, monkeypatch):
    results.save(tmp_path / "docs" / "results")
    (tmp_path / "docs" / "results" / "results.json").rename(tmp_path / "docs" / "results" / "defaults.json")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results -->\n| old |\n| --- |\n\nafter\n")
    monkeypatch.chdir(tmp_path / "docs")
    page_of_record(["page", "results"])
    before, opening, head, line, *rows, blank, after = readme.read_text("utf-8").splitlines()
    assert (before, opening, blank, after) == ("before", "<!-- results -->", "", "after")
    assert "seconds" in head and set(line) <= set("| -")
    (gru,) = (row for row in results.summary if row["entry"] == "gru")
    (row,) = (row for row in rows if row.startswith("| `charlm train --model gru` | "))
    assert f" | {gru['n_parameters']:,} | " in row and not any("n_layers" in row for row in rows)


def test_the_caption_names_text_split_budget_seeds_tuning_and_machine(results):
    for part in ("cats_&_dogs.txt, standard", "3,328 characters, 2 epochs", "over 2 seeds", "1,500 parameters"):
        assert part in caption(results)
    assert "2 trials on the validation part: learning_rate 0.001 to 0.1" in caption(results)
    assert results.machine in caption(results)


def test_the_chosen_values_are_a_table_of_their_own(results):
    entries, chosen, pairs = tables_of(results)
    assert chosen.head == ["model", "learning_rate"]
    assert {row[0]: float(row[1]) for row in chosen.cells} == {
        name: pytest.approx(values["learning_rate"], rel=1e-2) for name, values in results.chosen.items()
    }
    results.tuning = ""
    assert [table.label for table in tables_of(results)] == [entries.label, pairs.label]


def test_the_caption_of_counting_alone_names_neither_seeds_nor_a_training(results):
    results.entries = {"ngram": results.entries["ngram"]}
    assert "characters). Machine:" in caption(results)


def test_csv_has_one_line_a_training_with_the_numbers_in_full(results):
    lines = list(csv.DictReader(StringIO(csv_text(results))))
    assert len(lines) == len(results.rows) == 8
    for line, row in zip(lines, results.rows, strict=True):
        assert float(line["test_nats"]) == row["test_nats"]
    gru = [line for line in lines if line["entry"] == "gru"]
    assert {float(line["chosen_learning_rate"]) for line in gru} == {results.chosen["gru"]["learning_rate"]}
    assert all(int(line["peak_bytes"]) > 1e8 for line in gru)


def test_latex_is_well_formed(results):
    text = latex(results)
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    stack = []
    for kind, name in environments:
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == [] and [name for kind, name in environments if kind == "begin"] == ["table", "tabular"] * 3
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}") and "_" not in bare and "#" not in bare
    for table in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns, body = table
        assert body.count(r"\toprule") == body.count(r"\midrule") == body.count(r"\bottomrule") == 1
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
    assert text.isascii()


def test_latex_compiles(results, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "a.tex").write_text(head + latex(results) + r"\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("booktabs is not installed")
    assert done.returncode == 0, done.stdout[-2000:]


def test_special_characters_are_escaped_in_latex():
    assert escape(r"a_b & 50% ± \x é") == r"a\_b \& 50\% $\pm$ \textbackslash{}x ?"


def test_a_benchmark_of_counting_alone_has_no_curves(results, tmp_path):
    results.rows = [row for row in results.rows if row.get("model") in (None, "ngram")]
    results.entries = {"ngram": results.entries["ngram"]}
    assert "scatter.svg" in reports.write_report(results, tmp_path)
    assert not (tmp_path / "curves.svg").exists()


def test_a_band_spans_the_seeds_where_all_of_them_have_a_curve():
    band = curve_band([[[100, 1.0, 2.0], [300, 3.0, 1.0]], [[200, 4.0, 2.0], [400, 8.0, 1.0]]])
    assert (band["n_chars"][0], band["n_chars"][-1]) == (200, 300)
    assert band["low"][0] == pytest.approx(nats_to_bits(1.5)) and band["high"][0] == pytest.approx(nats_to_bits(2.0))
    assert band["mean"][-1] == pytest.approx(nats_to_bits((1.0 + 1.5) / 2))
    assert band["seconds"][0] == pytest.approx((2.0 + 4.0) / 2)


def test_a_reproduction_with_the_same_seed_is_within_the_interval(folder, exit_code, capsys):
    assert exit_code(f"bench --reproduce {folder / 'results.json'} --rows 2 --json") == 0
    rows = json.loads(capsys.readouterr()[0])
    assert len(rows) == 2
    for row in rows:
        assert row["is_within"] and row["reproduced_bits"] == pytest.approx(row["recorded_bits"], abs=1e-4)


def test_a_result_that_cannot_be_reproduced_is_an_error(results, tmp_path, exit_code, capsys):
    for row in results.rows:
        if "seed" in row:
            row["test_nats"] = 0.5 + 0.001 * row["seed"]
    results.save(tmp_path)
    assert exit_code(f"bench --reproduce {tmp_path} --rows 1") == 1
    out, err = capsys.readouterr()
    assert "outside" in out and "1 of 1 rows are outside their interval" in err


def test_a_text_that_has_moved_is_named_for_a_reproduction(folder, results, tmp_path, exit_code, capsys):
    for recipe in results.entries.values():
        recipe["corpus"] = ["gone.txt"]
    results.save(tmp_path)
    assert exit_code(f"bench --reproduce {tmp_path} --rows 1") == 66
    assert f"--corpus names the text of {tmp_path}" in capsys.readouterr().err
    assert exit_code(f"bench --reproduce {tmp_path} --rows 1 --corpus '{folder.parent}/cats_&_dogs.txt'") == 0


def test_a_reproduction_that_diverges_is_outside_and_the_other_rows_follow(results, tmp_path, exit_code, capsys):
    results.entries["gru"] |= {"optimizer": "sgd", "learning_rate": 1e25}
    results.save(tmp_path)
    assert exit_code(f"bench --reproduce {tmp_path} --rows 5") == 1
    out, err = capsys.readouterr()
    found = [line.split()[-3:] for line in out.splitlines() if line.startswith("gru")]
    assert [cells[-1] for cells in found] == ["outside"] * 2 and out.count("diverged") == 2
    assert "2 of 5 rows are outside" in err and out.count("within") == 3
    assert "rnn:n_layers=2, seed 0: " in err and f"recorded on {results.machine}" in err


def test_a_reproduction_on_another_text_is_refused(results, tmp_path):
    results.sha256 = "0" * 64
    results.save(tmp_path)
    with pytest.raises(DataError, match="SHA-256 differs"):
        list(reproduce(tmp_path, 1, lambda message: None))


def test_a_benchmark_without_a_training_cannot_be_reproduced(results, tmp_path):
    results.rows = [row for row in results.rows if "seed" not in row]
    results.save(tmp_path)
    with pytest.raises(DataError, match="has no finished training to reproduce"):
        list(reproduce(tmp_path, 1, lambda message: None))


def test_the_prediction_interval_is_students():
    low, high = prediction_interval([1.0, 2.0, 3.0])
    assert (high - low) / 2 == pytest.approx(4.303 * (1 + 1 / 3) ** 0.5, rel=1e-3)
    assert prediction_interval([1.0]) is None


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1}'])
def test_a_file_that_is_not_of_a_benchmark_is_refused(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError):
        Results.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"part": "best"}, {"chosen": {"gru": {"dropout": "x"}}}, {"rows": [{"entry": "gru"}, 3]}, {"entries": 1}]
    + [{"entries": {}}, {"rows": [{"entry": "gru", "model": "gru", "seed": 0}]}],
)
def test_a_damaged_file_is_refused(results, changes, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(json.loads(results.to_json()) | changes))
    with pytest.raises(DataError, match="is damaged"):
        Results.load(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputNotFoundError, match="name the folder of a benchmark"):
        Results.load(tmp_path)


def test_without_matplotlib_tables_are_written_and_the_extra_is_named(results, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(CharlmError, match=r"matplotlib is not installed; pip install .*\[plot\]"):
        reports.write_report(results, tmp_path)
    assert (tmp_path / "table.md").is_file()


@pytest.mark.parametrize(
    "line, message",
    [
        ("bench", "name models to train, or give --from FOLDER, or --reproduce FILE"),
        ("bench gru --from x", "one of the three"),
        ("bench gru --csv --json", "--csv and --json are both given"),
        ("bench gru --csv --markdown", "--markdown and --csv are both given; leave out one of them"),
        ("bench --from x --latex --csv", "--latex and --csv are both given; leave out one of them"),
        ("bench gru --trial-minutes 1", "--trial-minutes needs --tune"),
        ("bench gru --trials 3", "--trials needs --tune"),
        ("bench gru --rows 3", "--rows needs --reproduce"),
        ("bench --from x --seeds 3", "--seeds has no meaning with --from; leave it out"),
        ("bench --reproduce x --csv", "--csv has no meaning with --reproduce; leave it out"),
        ("bench gru --chars 1000 --epochs 2", "--chars is a budget"),
    ],
)
def test_options_that_exclude_one_another_are_refused(line, message, exit_code, capsys):
    assert exit_code(line) == 2
    assert message in capsys.readouterr().err

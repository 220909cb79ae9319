"""study/report.py: the numbers of a report equal those computed from its rows."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.study_cells import make_cells, make_info, markdown_tables, read_summary

from minbert import files
from study.report import write_report
from study.results import Cell

pytestmark = pytest.mark.filterwarnings("error")

TESTS = ("welch_p", "mann_whitney_p", "levene_p")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Path, list[Cell]]:
    """The folder of one report, and its cells."""
    folder = tmp_path_factory.mktemp("report")
    cells = make_cells(folder / "runs")
    write_report(folder / "out", make_info(), cells)
    return folder / "out", cells


def latex_tables(folder: Path) -> list[list[list[str]]]:
    """The rows of table.tex's tables, with the header first."""
    bodies = re.findall(r"\\toprule\n(.*?)\\bottomrule", (folder / "table.tex").read_text(encoding="utf-8"), re.DOTALL)
    return [
        [re.split(r" & ", line.removesuffix(r" \\")) for line in body.splitlines() if line != r"\midrule"]
        for body in bodies
    ]


def holm_by_hand(values: list[float]) -> list[float]:
    """The definition: the k-th smallest p (k from 0) is the largest of p_j (m - j) over j up to k, at most 1."""
    order = sorted(values)
    m = len(values)
    return [min(1.0, max((m - j) * order[j] for j in range(order.index(p) + 1))) for p in values]


def expected_tests(cells: list[Cell]) -> dict[tuple[str, str], dict[str, float]]:
    """scipy's p values of smart and lnsr against plain on each task."""
    scores = {(cell.task, cell.method): [r.score for r in cell.rows if r.score is not None] for cell in cells}
    tests = {}
    for task in ("rte", "mrpc"):
        for method in ("smart", "lnsr"):
            x, y = scores[task, method], scores[task, "plain"]
            tests[task, method] = {
                "difference": np.mean(x) - np.mean(y),
                "welch_p": stats.ttest_ind(x, y, equal_var=False).pvalue,
                "mann_whitney_p": stats.mannwhitneyu(x, y).pvalue,
                "levene_p": stats.levene(x, y, center="median").pvalue,
            }
    return tests


def test_the_summary_has_the_statistics_of_each_cell(report):
    folder, cells = report
    summary = read_summary(folder)
    assert len(summary["cells"]) == 6
    for values, cell in zip(summary["cells"], cells):
        scores = [row.score for row in cell.rows if row.score is not None]
        assert (values["task"], values["method"], values["point"]) == (cell.task, cell.method, {})
        assert (values["n"], values["failed"], values["paper"]) == (len(scores), cell.failed, cell.paper)
        for name, compute in (("mean", np.mean), ("median", np.median), ("min", min), ("max", max)):
            assert values[name] == pytest.approx(compute(scores), rel=1e-12)
        assert values["std"] == pytest.approx(np.std(scores, ddof=1), rel=1e-12)
        assert values["low"] < values["mean"] < values["high"]
        assert values["expected_best"][0] == pytest.approx(np.mean(scores))
        pairs = [(row.train_score, row.score) for row in cell.rows if row.score is not None]
        gaps = [train - dev for train, dev in pairs]
        assert values["train_and_dev"]["gap_mean"] == pytest.approx(np.mean(gaps))
        assert values["train_and_dev"]["n"] == len(gaps)
    assert [cell["failed"] for cell in summary["cells"]] == [1, 0, 1, 0, 0, 0]
    assert [cell["n"] for cell in summary["cells"]] == [7, 7, 6, 7, 7, 7]
    assert summary["cells"][0]["agreement"]["fleiss_kappa"] == 0.625
    assert "agreement" not in summary["cells"][1] and "variance" not in summary["cells"][1]


def test_the_summary_has_each_comparison_corrected_over_the_whole_report(report):
    folder, cells = report
    expected = expected_tests(cells)
    comparisons = read_summary(folder)["comparisons"]
    assert [(c["task"], c["method"]) for c in comparisons] == list(expected)
    assert {c["baseline"] for c in comparisons} == {"plain"}
    for comparison in comparisons:
        values = expected[comparison["task"], comparison["method"]]
        for name, value in values.items():
            assert comparison[name] == pytest.approx(value, rel=1e-9)
    for test in TESTS:
        corrected = holm_by_hand([values[test] for values in expected.values()])
        assert [c[f"{test}_corrected"] for c in comparisons] == pytest.approx(corrected, rel=1e-9)
        assert any(c[f"{test}_corrected"] > c[test] for c in comparisons)


def test_the_score_tables_show_the_same_numbers_in_points(report):
    folder, cells = report
    tables = markdown_tables(folder)
    score_tables = [table for table in tables if "median" in table[0]]
    assert [len(table) for table in score_tables] == [3, 3]
    for row, cell in zip([row for table in score_tables for row in table], cells, strict=True):
        scores = np.array([r.score for r in cell.rows if r.score is not None])
        assert row["method"] == cell.method
        assert row["mean"] == f"{100 * scores.mean():.2f}" and row["std"] == f"{100 * scores.std(ddof=1):.2f}"
        assert row["median"] == f"{100 * np.median(scores):.2f}" and row["n"] == str(len(scores))
        assert (row["min"], row["max"]) == (f"{100 * scores.min():.2f}", f"{100 * scores.max():.2f}")
        assert row["failed"] == f"{cell.failed} of 7"
        summary = next(c for c in read_summary(folder)["cells"] if (c["task"], c["method"]) == (cell.task, cell.method))
        assert row["95 % interval"] == f"{100 * summary['low']:.2f} to {100 * summary['high']:.2f}"
        if cell.task == "rte":
            assert (row["paper mean"], row["paper std"]) == tuple(f"{x:.2f}" for x in cell.paper.values())
            assert "paper median" not in row  # only the columns that occur
        else:
            assert "paper mean" not in row


def test_the_comparison_tables_show_corrected_p_values(report):
    folder, cells = report
    expected = expected_tests(cells)
    corrected = {test: holm_by_hand([values[test] for values in expected.values()]) for test in TESTS}
    rows = [row for table in markdown_tables(folder) if "compared with" in table[0] for row in table]
    for i, (row, ((_, method), values)) in enumerate(zip(rows, expected.items(), strict=True)):
        assert (row["method"], row["compared with"]) == (method, "plain")
        assert row["difference"] == f"{100 * values['difference']:+.2f}".replace("-", "−")
        for column, test in (("Welch p", "welch_p"), ("Mann-Whitney p", "mann_whitney_p"), ("Levene p", "levene_p")):
            p = corrected[test][i]
            assert row[column] == ("< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0"))


def test_latex_has_the_same_tables(report):
    folder, _ = report
    in_markdown = [table for table in markdown_tables(folder) if "method" in table[0] and "task" not in table[0]]
    in_latex = latex_tables(folder)
    assert len(in_latex) == len(in_markdown) == 7  # for each task scores, comparison, train and dev; one agreement
    for latex, markdown in zip(in_latex, in_markdown):
        readable = [
            [
                text.replace(r"\%", "%").replace("$-$", "−").replace(r"\textless{}", "<").replace("--", "–")
                for text in row
            ]
            for row in latex
        ]
        assert readable == [list(markdown[0]), *(list(row.values()) for row in markdown)]


def test_the_first_paragraph_says_it_in_words(report):
    folder, _ = report
    comparisons = read_summary(folder)["comparisons"]
    paragraph = (folder / "report.md").read_text(encoding="utf-8").split("\n\n")[1]
    smart = comparisons[0]
    between = f"{100 * smart['low']:.2f} to {100 * smart['high']:.2f}"
    assert (
        f"smart is ahead of plain on rte by {100 * smart['difference']:.2f} points (95 % interval of the difference "
        f"{between}, Welch p = {smart['welch_p_corrected']:.3f}".replace("= 0.", "= .")
        in paragraph
    )
    assert "after Holm's correction, 7 seeds each)." in paragraph
    assert "lnsr cannot be distinguished from plain on rte (+" in paragraph and "6 and 7 seeds" in paragraph
    needed = comparisons[1]["seeds_needed"]
    assert f"about {round(needed, -1)} seeds each would be needed to see such a difference" in paragraph
    assert "1 of 7 runs of plain on rte failed: score is not above the majority baseline." in paragraph
    assert "1 of 7 runs of lnsr on rte failed: loss or gradient not finite." in paragraph


def test_all_files_are_there_and_nothing_else(report):
    folder, cells = report
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    pictures = [f"{kind}-{task}" for kind in ("scores", "curves", "loss", "best") for task in ("rte", "mrpc")]
    assert names == {
        *("report.md", "report.html", "results.csv", "summary.json", "table.tex"),
        *(f"pictures/{name}.{kind}" for name in pictures for kind in ("png", "svg")),
    }
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == sum(len(cell.rows) for cell in cells)
    linked = re.findall(r"!\[.*?\]\(<(.*?)>\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(f"pictures/{name}.png" for name in pictures)


def test_html_refers_to_nothing_outside(report):
    folder, _ = report
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 8
    assert "http" not in page and "<link" not in page and "<script" not in page and "url(" not in page
    sources = re.findall(r'(?:src|href)="([^"]{1,30})', page)
    assert len(sources) == 8 and all(source.startswith("data:") for source in sources)


def test_the_report_names_settings_versions_device_compute_and_command(report):
    folder, _ = report
    text = (folder / "report.md").read_text(encoding="utf-8")
    settings, versions = markdown_tables(folder)[-2:]
    assert {"setting": "lr", "value": "5e-5"} in settings and {
        "setting": "bias-correction",
        "value": "true",
    } in settings
    assert {"name": "device", "value": "CPU, 2 cores"} in versions and {"name": "torch", "value": "2.13.0"} in versions
    time = "0:43 (hours:minutes) in 42 finished runs, without loading, evaluation and the report."
    assert f"Training time: {time}" in text  # 42 x 61.25 s = 42.9 min
    assert "```\npython -m study made-up.toml --seeds 7\n```" in text
    assert "they show what a report looks like." in text


def test_the_report_says_what_each_method_is(report):
    folder, _ = report
    text = (folder / "report.md").read_text(encoding="utf-8")
    (table,) = [table for table in markdown_tables(folder) if "option" in table[0]]
    assert table == [
        {"task": "rte", "method": "plain", "option": "finetune", "set": "–", "clip": "0"},
        {"task": "rte", "method": "smart", "option": "smart", "set": "smart.eps=1e-3 smart.steps=2", "clip": "1, 5e-4"},
    ]
    assert text.index("## Settings of each method") < text.index("| finetune |") < text.index("## Settings of all runs")


def test_the_note_on_the_paper_stands_below_tables_with_its_numbers(tmp_path):
    cells = make_cells(tmp_path / "runs")  # of rte the paper has numbers, of mrpc none
    write_report(tmp_path / "out", make_info(paper_note="The paper's numbers are for X."), [cells[0], cells[3]])
    blocks = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").split("\n\n")
    with_note = [i for i, block in enumerate(blocks) if "The paper's numbers are for X." in block]
    assert len(with_note) == 1 and "paper mean" in blocks[with_note[0] - 1]


def test_a_second_report_has_the_same_bytes(tmp_path):
    cells = make_cells(tmp_path / "runs")[:3]
    for name in ("a", "b"):
        write_report(tmp_path / name, make_info(), cells)
    first, second = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    ]
    assert first == second and len(first) == 13
    write_report(tmp_path / "a", make_info(), cells[:1])  # into the same folder
    assert read_summary(tmp_path / "a")["comparisons"] == []


def test_a_report_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    cells = make_cells(tmp_path / "runs")[:1]
    write_report(tmp_path / "out", make_info(), cells)
    before = (tmp_path / "out" / "report.md").read_bytes()

    def stop(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "out", make_info(name="other"), cells)
    assert (tmp_path / "out" / "report.md").read_bytes() == before
    assert not [path for path in (tmp_path / "out").rglob(".*")]  # no temporary file

"""Parts of a report that only some studies have, and degenerate studies."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats
from support.study_cells import make_cell, make_cells, make_grid, make_info, make_row, markdown_tables, read_summary

from study.comparisons import measure_cells
from study.curves import curve_figure
from study.report import write_report
from study.results import Cell, Row

pytestmark = pytest.mark.filterwarnings("error")


def test_separate_seeds_split_the_variance(tmp_path):
    def scored(i: int, d: int) -> Row:
        return make_row(tmp_path, "plain", 3 * i + d, 0.6 + 0.03 * i + 0.01 * d, init_seed=i, data_seed=d)

    rows = [scored(i, d) for i in range(2) for d in range(3)]
    write_report(tmp_path / "out", make_info(), [make_cell(rows)])
    (table,) = [table for table in markdown_tables(tmp_path / "out") if "std init" in table[0]]
    # Additive effects: the variance of the init effects is var(0, 3) = 4.5, of the data effects var(0, 1, 2) = 1.
    assert [table[0][f"std {name}"] for name in ("init", "data", "rest")] == ["2.12", "1.00", "0.00"]
    assert [table[0][name] for name in ("seeds", "init", "data", "rest")] == ["2 × 3", "82 %", "18 %", "0 %"]
    variance = read_summary(tmp_path / "out")["cells"][0]["variance"]
    assert (variance["init_seeds"], variance["data_seeds"]) == (2, 3)
    assert variance["init"] == pytest.approx(4.5e-4) and variance["data"] == pytest.approx(1e-4)
    write_report(tmp_path / "out", make_info(), [make_cell(rows[:-1])])  # an incomplete table
    assert "std init" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_grid_has_its_settings_as_columns_and_pictures_by_method(tmp_path):
    write_report(tmp_path / "out", make_info(), make_grid(tmp_path / "runs"))
    scores, comparisons = markdown_tables(tmp_path / "out")[:2]
    assert [(row["method"], row["epochs"], row["lr"]) for row in scores[:2]] == [
        ("plain", "3", "1e-5"),
        ("plain", "3", "2e-5"),
    ]
    assert len(scores) == 12 and len(comparisons) == 6 and comparisons[5]["lr"] == "5e-4"
    names = {path.stem for path in (tmp_path / "out" / "pictures").glob("*.png")}
    assert {"scores-rte", "grid-plain-on-rte", "curves-rte-plain", "curves-rte-no_correction"} <= names


def test_each_task_has_a_part_that_names_its_metric_if_the_study_chose_one(tmp_path):
    write_report(tmp_path / "out", make_info(metrics={"mrpc": "f1"}), make_cells(tmp_path / "runs"))
    headings = re.findall(r"^## (.*)", (tmp_path / "out" / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["rte", "mrpc (f1)"]


@pytest.mark.parametrize("methods, has_bands", [(6, True), (7, False)])
def test_up_to_six_lines_have_bands_and_the_text_says_so(tmp_path, methods, has_bands):
    cells = [
        make_cell([make_row(tmp_path, f"m{i}", seed, 0.6 + 0.01 * seed) for seed in (0, 1)]) for i in range(methods)
    ]
    write_report(tmp_path / "out", make_info(), cells)
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert ("bands are one standard deviation" in report) == has_bands
    axes = curve_figure(measure_cells(cells, {})).axes[0]
    assert len(axes.collections) == (methods if has_bands else 0)


def test_missing_runs_and_errors_stand_at_the_top(tmp_path):
    info = make_info(runs_planned=50, runs_finished=25, runs_with_errors=[("rte-plain-3", "out of memory | *x*")])
    write_report(tmp_path / "out", info, make_cells(tmp_path / "runs")[3:4])
    blocks = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").split("\n\n")
    assert blocks[1] == "**25 of 50 runs are finished.**"
    assert "1 run ended with an error and is not counted:" in blocks[3]
    assert blocks[4] == r"- rte-plain-3: out of memory \| \*x\*"
    assert read_summary(tmp_path / "out")["runs_with_errors"] == [
        {"run": "rte-plain-3", "reason": "out of memory | *x*"}
    ]


def test_names_that_give_equal_file_names_have_pictures_of_their_own(tmp_path):
    cells = []
    for task in ("a b", "a-b", "A b"):
        (tmp_path / task).mkdir()
        rows = [replace(make_row(tmp_path / task, "plain", seed, 0.6 + 0.01 * seed), task=task) for seed in range(3)]
        cells.append(make_cell(rows))
    write_report(tmp_path / "out", make_info(), cells)
    names = {path.stem for path in (tmp_path / "out" / "pictures").glob("scores*.svg")}
    assert names == {"scores-a-b", "scores-a-b-2", "scores-A-b-3"}


def test_hostile_names_stay_in_their_columns(tmp_path):
    name = r"a|b_c & 5% <b>$x$</b> \ {#}"
    rows = [replace(make_row(tmp_path, "plain", seed, 0.6 + 0.01 * seed), method=name) for seed in range(3)]
    plain = [make_row(tmp_path, "plain", seed, 0.61 + 0.01 * seed) for seed in range(3)]
    info = make_info(name=name, baselines={name: "plain"}, about="# x\n\n<script>y</script>", command="echo '<b>'")
    write_report(tmp_path / "out", info, [make_cell(plain), make_cell(rows)])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page and "<script" not in page
    assert r"a\textbar{}b\_c \& 5\% \textless{}b\textgreater{}\$x\$" in (tmp_path / "out" / "table.tex").read_text()
    assert r"| a\|b_c & 5% \<b>\$x\$\</b> \\ {#} |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert read_summary(tmp_path / "out")["cells"][1]["method"] == name


def one_seed(folder: Path) -> list[Cell]:
    return [make_cell([make_row(folder, name, 0, score)]) for name, score in (("plain", 0.7), ("smart", 0.75))]


def all_failed(folder: Path) -> list[Cell]:
    return [
        make_cell([make_row(folder, name, seed, 0.5271, train_score=0.5) for seed in range(3)])
        for name in ("plain", "smart")
    ]


def no_scores(folder: Path) -> list[Cell]:
    return [make_cell([make_row(folder, name, seed, None) for seed in range(2)]) for name in ("plain", "smart")]


def one_side_without_scores(folder: Path) -> list[Cell]:
    return [no_scores(folder)[0], make_cell([make_row(folder, "smart", seed, 0.7 + 0.01 * seed) for seed in range(3)])]


def one_method(folder: Path) -> list[Cell]:
    return [make_cell([make_row(folder, "plain", seed, 0.7 + 0.01 * seed, train_score=None) for seed in range(2)])]


def all_equal(folder: Path) -> list[Cell]:
    return [
        make_cell([make_row(folder, name, seed, 0.7, train_loss=0.5, history=[]) for seed in range(3)])
        for name in ("plain", "smart")
    ]


def one_point_each(folder: Path) -> list[Cell]:
    return [
        make_cell([make_row(folder, "plain", seed, score, point={"lr": lr, "epochs": epochs}) for seed in range(2)])
        for lr, epochs, score in ((1e-5, 3, 0.7), (2e-5, 4, 0.7))
    ]


def empty_cells(folder: Path) -> list[Cell]:
    return [Cell("rte", "plain", {}), Cell("rte", "smart", {}, paper={"mean": 70.0})]


DEGENERATE = {
    one_seed: "smart scores 5.00 points more than plain on rte, which cannot be tested (1 seed each). Each score comes "
    "from one seed. One seed proves nothing: another seed may turn the order around.",
    all_failed: "smart and plain have equal scores on rte (neither has any spread). 3 of 3 "
    "runs of plain on rte failed: score is not above the majority baseline. 3 of 3 runs of smart on rte failed: "
    "score is not above the majority baseline.",
    no_scores: "No run has a score. 2 of 2 runs of plain on rte failed: loss or gradient not finite. 2 of 2 runs of "
    "smart on rte failed: loss or gradient not finite.",
    one_side_without_scores: "Nothing is compared. Highest mean: smart on rte: 71.00 points. smart on rte is not "
    "compared: no run of plain has a score. 2 of 2 runs of plain on rte failed: loss or gradient not finite.",
    one_method: "Nothing is compared. Highest mean: plain on rte: 70.50 points.",
    all_equal: "smart and plain have equal scores on rte (neither has any spread).",
    one_point_each: "Nothing is compared. Highest mean: plain (lr 1e-5, epochs 3) on rte: 70.00 points.",
    empty_cells: "No run has a score yet.",
}


@pytest.mark.parametrize("make", DEGENERATE, ids=lambda make: make.__name__)
def test_degenerate_studies_have_a_report(tmp_path, make, capfd):
    write_report(
        tmp_path / "out", make_info(settings={}, method_settings={}, machine={}, about=""), make(tmp_path / "runs")
    )
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").split("\n\n")[1] == DEGENERATE[make]
    read_summary(tmp_path / "out")  # without NaN
    for name in ("report.md", "report.html", "table.tex", "results.csv"):
        assert not re.search(r"\b(nan|None|inf)\b", re.sub('base64,[^"]*', "", (tmp_path / "out" / name).read_text()))
    assert capfd.readouterr() == ("", "")


def test_a_study_without_any_cell_has_a_report(tmp_path):
    write_report(tmp_path, make_info(runs_finished=0), [])
    assert (tmp_path / "report.md").read_text().split("\n\n")[1:3] == [
        "**0 of 42 runs are finished.**",
        "No run has a score yet.",
    ]
    assert (tmp_path / "table.tex").read_text() == "% \\usepackage{booktabs}\n"
    assert (tmp_path / "results.csv").read_text().startswith("task,method,seed,score,failed")


@pytest.mark.parametrize("center", ["median", "mean"])
def test_levenes_test_has_the_center_of_the_study(tmp_path, center):
    plain, smart = [0.61, 0.64, 0.72, 0.66, 0.93], [0.7, 0.71, 0.75, 0.7]
    groups = {"plain": plain, "smart": smart}
    cells = [
        make_cell([make_row(tmp_path, method, seed, score) for seed, score in enumerate(scores)])
        for method, scores in groups.items()
    ]
    write_report(tmp_path / "out", make_info(levene=center), cells)
    (comparison,) = read_summary(tmp_path / "out")["comparisons"]
    assert comparison["levene_p"] == pytest.approx(stats.levene(smart, plain, center=center).pvalue, rel=1e-12)
    assert f"Levene: around the {center}." in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")

"""study/summary.py and study/comparisons.py: what is compared with what, and the results in words."""

from dataclasses import replace

import numpy as np
import pytest
from support.study_cells import MAJORITY, make_cell, make_cells, make_grid, make_row

from minbert.metrics import failure_reason
from study.comparisons import find_baseline, measure_cells
from study.results import Cell
from study.summary import failure_in_words, summarize_in_words, two_digits

pytestmark = pytest.mark.filterwarnings("error")


def summarize(cells: list[Cell], baselines: dict[str, str]) -> str:
    """The first paragraph of a report on these cells."""
    return summarize_in_words(measure_cells(cells, baselines), baselines)


def test_a_cell_is_compared_with_its_baseline_at_the_same_point(tmp_path):
    cells = make_grid(tmp_path)
    for result in measure_cells(cells, {"no_correction": "plain"})[6:]:
        baseline = result.baseline.cell
        assert baseline.method == "plain" and baseline.point == result.cell.point
        mean = np.mean(result.cell.scores) - np.mean(baseline.scores)
        assert result.comparison["difference"] == pytest.approx(mean)


def test_the_only_cell_of_the_baseline_stands_for_all_points(tmp_path):
    cells = make_grid(tmp_path)
    baselines = {"no_correction": "plain"}
    results = measure_cells(cells, {})
    assert find_baseline(results[6], results[5:], baselines) is results[5]  # another point
    assert find_baseline(results[6], results[4:6], baselines) is None  # two other points
    elsewhere = replace(results[5], cell=replace(cells[5], task="mrpc"))
    assert find_baseline(results[6], [results[6], elsewhere], baselines) is None
    assert find_baseline(results[6], results, {}) is None
    assert find_baseline(results[0], results, {"plain": "plain"}) is None


def test_an_unequal_point_of_the_baseline_is_named(tmp_path):
    cells = make_grid(tmp_path)[5:8]
    text = summarize(cells, {"no_correction": "plain"})
    assert "no_correction (epochs 3, lr 1e-5)" in text and "behind plain (epochs 10, lr 5e-4) on rte by" in text


def test_many_comparisons_are_counted(tmp_path):
    cells = [make_cell([make_row(tmp_path, "plain", i, 0.6 + 0.01 * i) for i in range(5)])]
    gains = [0.2, 0.0, 0.005, -0.2, 0.001, 0.002]
    for k, gain in enumerate(gains):
        cells.append(make_cell([make_row(tmp_path, f"m{k}", i, 0.6 + gain + 0.0101 * i) for i in range(5)]))
    text = summarize(cells, {f"m{k}": "plain" for k in range(6)})
    assert "m0 is ahead of plain on rte by 20.02 points" in text
    assert "m3 is behind plain on rte by 19.98 points" in text
    assert "The other 4 comparisons show no significant difference of the means after Holm's correction." in text
    assert "m1" not in text and "m2" not in text
    text = summarize([*cells[:1], *cells[2:4], *cells[5:]] * 2, {"m1": "plain"})
    assert "m1 cannot be distinguished from plain" in text


@pytest.mark.parametrize(
    ("count", "sentence"), [(11, "1 further comparison shows a"), (12, "2 further comparisons show a")]
)
def test_of_very_many_differences_the_last_ones_are_counted(tmp_path, count, sentence):
    cells = [make_cell([make_row(tmp_path, "plain", i, 0.6 + 0.001 * i) for i in range(5)])]
    for k in range(count):
        cells.append(make_cell([make_row(tmp_path, f"m{k}", i, 0.8 + 0.0011 * i) for i in range(5)]))
    text = summarize(cells, {f"m{k}": "plain" for k in range(count)})
    assert text.count("is ahead of plain") == 10
    assert f"{sentence} difference (tables below)." in text


def test_seeds_needed_are_not_told_if_there_are_as_many(tmp_path):
    """One test would see the difference with three seeds; corrected for four tests it is not significant."""
    gains = {"plain": 0.0, "m0": 0.0325, "m1": 0.001, "m2": 0.002, "m3": 0.003}
    cells = [
        make_cell([make_row(tmp_path, name, i, 0.6 + gain + 0.01 * i) for i in range(3)])
        for name, gain in gains.items()
    ]
    baselines = dict.fromkeys(list(gains)[1:], "plain")
    results = measure_cells(cells, baselines)
    assert results[1].comparison["seeds_needed"] == 3 and not results[1].is_significant()
    first, *others = summarize_in_words(results, baselines).split(" m")
    assert "m0 cannot be distinguished" in first and "would be needed" not in first
    assert all("would be needed" in sentence for sentence in others)


def test_the_spread_is_told_where_levene_sees_a_difference(tmp_path):
    wide = [0.55 + 0.02 * i for i in range(12)]
    narrow = [0.66 + 0.0005 * i for i in range(12)]
    cells = [make_cell([make_row(tmp_path, name, i, x) for i, x in enumerate(scores)])
             for name, scores in (("plain", wide), ("smart", narrow))]  # fmt: skip
    text = summarize(cells, {"smart": "plain"})
    assert "smart cannot be distinguished from plain on rte" in text
    assert "smart varies less over the seeds than plain on rte (mean distance to the center 0.15 and 6.00, " in text
    assert "Levene p < .001; standard deviation 0.18 and 7.21)." in text
    assert "plain varies more over the seeds than smart" in summarize(cells, {"plain": "smart"})


def test_one_far_run_does_not_turn_the_spread_around(tmp_path):
    """Equal runs and a far one have the larger standard deviation. Levene's test finds that the others vary more."""
    one_far = [0.527] * 24 + [0.704]
    spread = [0.6 + 0.01 * (i % 5) + (0.04 if i % 2 else -0.04) for i in range(25)]
    cells = [make_cell([make_row(tmp_path, name, i, x) for i, x in enumerate(scores)])
             for name, scores in (("plain", one_far), ("smart", [0.6 + (x - 0.6) * 0.75 for x in spread]))]  # fmt: skip
    results = measure_cells(cells, {"smart": "plain"})
    assert results[1].summary["std"] < results[0].summary["std"] and results[1].is_significant("levene_p")
    assert "smart varies more over the seeds than plain" in summarize_in_words(results, {"smart": "plain"})


def test_comparisons_without_a_test_are_counted_apart(tmp_path):
    """Constant scores on both sides, or one run on a side: Welch's test is undefined, so nothing is shown."""
    scores = {"plain": [0.6] * 3, "m0": [0.9] * 3, "m1": [0.1] * 3, "m2": [0.7], "m3": [0.61, 0.5, 0.7]}
    scores["m4"] = [0.59, 0.5, 0.7]
    cells = [
        make_cell([make_row(tmp_path, name, i, x) for i, x in enumerate(values)]) for name, values in scores.items()
    ]
    text = summarize(cells, dict.fromkeys(list(scores)[1:], "plain"))
    assert "The 2 comparisons show no significant difference of the means after Holm's correction." in text
    assert "3 comparisons cannot be tested: one run on a side, or no spread." in text


@pytest.mark.parametrize("others, verb", [(5, "5 of them do"), (0, "")])
def test_differences_by_ranks_are_counted(tmp_path, others, verb):
    """One run far below the others hides the difference of the means from Welch's test, but not that of the ranks."""
    scores = {f"m{k}": [0.65 + 0.001 * i for i in range(11)] + [0.1 if k < others else 0.60] for k in range(5)}
    scores = {"plain": [0.62 + 0.001 * i for i in range(12)]} | scores
    if not others:
        scores = {name: scores["plain"] for name in scores}
    cells = [
        make_cell([make_row(tmp_path, name, i, x) for i, x in enumerate(values)]) for name, values in scores.items()
    ]
    text = summarize(cells, dict.fromkeys(list(scores)[1:], "plain"))
    ranks = f"; by ranks (Mann-Whitney) {verb}" if verb else ""
    start = "The 5 comparisons show no significant difference of the means after Holm's correction"
    assert f"{start}{ranks}." in text


def test_failures_of_several_kinds_are_counted_apart(tmp_path):
    rows = [
        make_row(tmp_path, "plain", 0, 0.52),
        make_row(tmp_path, "plain", 1, 0.5, failure="dev: score 0.5000 is not above the majority baseline's 0.5271"),
        make_row(tmp_path, "plain", 2, None),
        make_row(tmp_path, "plain", 3, 0.6, failed=True, failure="dev: every example gets the same prediction"),
        make_row(tmp_path, "plain", 4, 0.7),
    ]
    assert (
        "4 of 5 runs of plain on rte failed: score is not above the majority baseline (2), loss or gradient not "
        "finite (1) and every example gets the same prediction (1)." in summarize([make_cell(rows)], {})
    )


@pytest.mark.parametrize(
    ("logits", "scores"),
    [
        ([[np.nan, 1.0], [1.0, 0.0]], (0.5, 0.6)),
        ([[0.0, 1.0], [0.0, 2.0]], (0.5, 0.6)),
        ([[0.0, 1.0], [1.0, 0.0]], (0.4321, 0.6)),
        ([[0.0, 1.0], [1.0, 0.0]], (-0.25, 0.0)),
    ],
)
def test_a_failure_is_told_as_it_is_without_its_numbers(tmp_path, logits, scores):
    """Two runs that failed in the same way have the same words, which are those of minbert/metrics.py."""
    predictions = np.argmax(np.nan_to_num(logits), -1)
    reasons = [
        failure_reason(np.array(logits), predictions, score, majority) for score, majority in (scores, (0.1, 0.2))
    ]
    assert all(reasons)
    rows = [make_row(tmp_path, "plain", i, 0.6, failed=True, failure=f"dev: {x}") for i, x in enumerate(reasons)]
    first, second = map(failure_in_words, rows)
    assert first == second and not any(letter.isdigit() for letter in first)
    words = reasons[0].replace("'s ", " ").split()
    assert set(first.split()) <= set(words) and len(first.split()) >= len(reasons[0].split()) - 2


def test_failures_in_many_cells_are_summed(tmp_path):
    cells = [make_cell([make_row(tmp_path, f"m{k}", 0, 0.5), make_row(tmp_path, f"m{k}", 1, 0.6)]) for k in range(5)]
    cells += [replace(cells[0], task="sst5"), make_cell([make_row(tmp_path, "m5", 0, 0.6)])]  # runs of several tasks
    assert "5 of 11 runs failed; the tables below say where." in summarize(cells, {})


def test_a_cell_without_a_baseline_is_named(tmp_path):
    grid = make_grid(tmp_path)  # six cells of plain, then six of no_correction
    baselines = {"no_correction": "plain"}
    text = summarize([*grid[:2], *grid[6:9]], baselines)
    reason = "on rte is not compared: plain has no finished run with the same settings."
    assert f"no_correction (epochs 3, lr 5e-4) {reason}" in text
    assert text.count("is not compared") == 1
    unfinished = [replace(cell, rows=[]) for cell in grid[:6]]
    assert summarize([*unfinished, *grid[6:9]], baselines).count("plain has no finished run") == 3
    failed = replace(grid[0], rows=[make_row(tmp_path, "plain", 0, None, point=grid[0].point)])
    assert "is not compared: no run of plain has a score." in summarize([failed, grid[6]], baselines)
    assert "6 cells are not compared: no run of their baselines" in summarize([*unfinished, *grid[6:]], baselines)
    assert "is not compared" not in summarize([grid[0], replace(grid[6], rows=[])], baselines)  # nothing to compare
    assert "is not compared" not in summarize([*grid[:2], *grid[6:9]], {})  # no comparison was asked for


def test_nothing_compared_names_the_highest_mean(tmp_path):
    cells = make_cells(tmp_path)
    text = summarize(cells, {})
    rte, mrpc = [f"{100 * np.mean(cell.scores):.2f} points" for cell in (cells[1], cells[4])]
    assert text.startswith(f"Nothing is compared. Highest mean: smart on rte: {rte}; smart on mrpc: {mrpc}. 1 of 7")


def test_seeds_needed_are_rounded_to_two_digits():
    assert [two_digits(n) for n in (7, 99, 187, 5953)] == [7, 99, 190, 6000]


def test_a_single_run_in_one_of_several_cells_is_named(tmp_path):
    cells = [*make_cells(tmp_path / "runs")[3:5], make_cell([make_row(tmp_path / "x", "lnsr", 0, 0.8, "mrpc")])]
    text = summarize(cells, {"smart": "plain", "lnsr": "plain"})
    assert "which cannot be tested (1 and 7 seeds)" in text
    assert text.endswith("One seed proves nothing; only one run has a score for lnsr on mrpc.")
    assert MAJORITY not in text

"""study/words.py and study/comparisons.py: what is compared with what, and the results in words."""

from dataclasses import replace

import numpy as np
import pytest
from support.study_cells import MAJORITY, make_cell, make_cells, make_grid, make_row

from study import words
from study.comparisons import find_baseline, measure_cells, point_key, scored_rows
from study.words import summarize_in_words

pytestmark = pytest.mark.filterwarnings("error")


def test_a_cell_is_compared_with_its_baseline_at_the_same_point(tmp_path):
    cells = make_grid(tmp_path)
    for result in measure_cells(cells, {"no_correction": "plain"})[6:]:
        assert result.baseline.method == "plain" and result.baseline.point == result.cell.point
        mean = np.mean(result.cell.scores) - np.mean(result.baseline.scores)
        assert result.comparison["difference"] == pytest.approx(mean)


def test_the_only_cell_of_the_baseline_stands_for_all_points(tmp_path):
    cells = make_grid(tmp_path)
    assert find_baseline(cells[6], cells[5:], {"no_correction": "plain"}) is cells[5]  # another point
    assert find_baseline(cells[6], cells[4:6], {"no_correction": "plain"}) is None  # two other points
    assert find_baseline(cells[6], [cells[6], replace(cells[5], task="mrpc")], {"no_correction": "plain"}) is None
    assert find_baseline(cells[6], cells, {}) is None
    assert find_baseline(cells[0], cells, {"plain": "plain"}) is None


def test_an_unequal_point_of_the_baseline_is_named(tmp_path):
    cells = make_grid(tmp_path)[5:8]
    text = summarize_in_words(measure_cells(cells, {"no_correction": "plain"}))
    assert "no_correction (epochs 3, lr 1e-5)" in text and "behind plain (epochs 10, lr 5e-4) on rte by" in text


def test_cells_whose_scores_do_not_match_their_rows_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="plain on rte has 2 scores for 1 runs"):
        scored_rows(make_cell([make_row(tmp_path, "plain", 0, 0.7)], scores=[0.7, 0.6]))


def test_points_with_lists_are_keys():
    assert {point_key({"set": ["a", "b"], "lr": 1e-5})} == {(("set", ("a", "b")), ("lr", 1e-5))}


def test_many_comparisons_are_counted(tmp_path):
    cells = [make_cell([make_row(tmp_path, "plain", i, 0.6 + 0.01 * i) for i in range(5)])]
    gains = [0.2, 0.0, 0.005, -0.2, 0.001, 0.002]
    for k, gain in enumerate(gains):
        cells.append(make_cell([make_row(tmp_path, f"m{k}", i, 0.6 + gain + 0.0101 * i) for i in range(5)]))
    text = summarize_in_words(measure_cells(cells, {f"m{k}": "plain" for k in range(6)}))
    assert "m0 is ahead of plain on rte by 20.02 points" in text
    assert "m3 is behind plain on rte by 19.98 points" in text
    assert "The other 4 comparisons show no significant difference after Holm's correction." in text
    assert "m1" not in text and "m2" not in text
    text = summarize_in_words(measure_cells([*cells[:1], *cells[2:4], *cells[5:]] * 2, {"m1": "plain"}))
    assert "m1 cannot be distinguished from plain" in text


def test_the_spread_is_told_where_levene_sees_a_difference(tmp_path):
    wide = [0.55 + 0.02 * i for i in range(12)]
    narrow = [0.66 + 0.0005 * i for i in range(12)]
    cells = [make_cell([make_row(tmp_path, name, i, x) for i, x in enumerate(scores)])
             for name, scores in (("plain", wide), ("smart", narrow))]  # fmt: skip
    text = summarize_in_words(measure_cells(cells, {"smart": "plain"}))
    assert "smart cannot be distinguished from plain on rte" in text
    assert "smart varies less over the seeds than plain on rte (standard deviation 0.18 and 7.21, Levene p" in text
    assert "plain varies more over the seeds than smart" in summarize_in_words(measure_cells(cells, {"plain": "smart"}))


def test_failures_of_several_kinds_are_counted_apart(tmp_path):
    rows = [
        make_row(tmp_path, "plain", 0, 0.52),
        make_row(tmp_path, "plain", 1, 0.5),
        make_row(tmp_path, "plain", 2, None),
        make_row(tmp_path, "plain", 3, 0.6, failed=True, failure="dev: every example gets the same prediction"),
        make_row(tmp_path, "plain", 4, 0.7),
    ]
    text = summarize_in_words(measure_cells([make_cell(rows)], {}))
    assert (
        "4 of 5 runs of plain on rte failed: not better than the majority class (2), loss not finite (1) and "
        "same prediction for every example (1)." in text
    )


def test_failures_in_many_cells_are_summed(tmp_path):
    cells = [make_cell([make_row(tmp_path, f"m{k}", 0, 0.5), make_row(tmp_path, f"m{k}", 1, 0.6)]) for k in range(5)]
    cells += [replace(cells[0], task="sst5"), make_cell([make_row(tmp_path, "m5", 0, 0.6)])]  # runs of several tasks
    assert "5 of 11 runs failed; the tables below say where." in summarize_in_words(measure_cells(cells, {}))


def test_nothing_compared_names_the_highest_mean(tmp_path):
    cells = make_cells(tmp_path)
    text = summarize_in_words(measure_cells(cells, {}))
    rte, mrpc = [f"{100 * np.mean(cell.scores):.2f} points" for cell in (cells[1], cells[4])]
    assert text.startswith(f"Nothing is compared. Highest mean: smart on rte: {rte}; smart on mrpc: {mrpc}. 1 of 7")


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-5, "5e-5"), (0.00015, "1.5e-4"), (0.1, "0.1"), (0.01, "0.01"), (3, "3"), (2.0, "2"), (0.0, "0"),
     (True, "true"), (None, "–"), ([0.9, 0.999], "0.9 0.999"), (["a", 1e-6], "a 1e-6"), ("x", "x"), (-1e-3, "-1e-3")],
)  # fmt: skip
def test_settings_are_written_as_a_user_would(value, text):
    assert words.setting(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.72234, "72.23"), (-0.005, "−0.50"), (-0.00001, "0.00"), (None, "–"), (1, "100.00")]
)
def test_scores_are_points(value, text):
    assert words.points(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0104, "p = .010"), (0.00099, "p < .001"), (1.0, "p = 1.000"), (0.05, "p = .050")]
)
def test_p_values(p, text):
    assert words.p_equals(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 second"), (41.2, "41 seconds"), (60, "0:01 (hours:minutes)"), (36_029, "10:00 (hours:minutes)")],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_seeds_needed_are_rounded_to_two_digits():
    assert [words.two_digits(n) for n in (7, 99, 187, 5953)] == [7, 99, 190, 6000]


def test_a_single_run_in_one_of_several_cells_is_named(tmp_path):
    cells = [*make_cells(tmp_path / "runs")[3:5], make_cell([make_row(tmp_path / "x", "lnsr", 0, 0.8, "mrpc")])]
    text = summarize_in_words(measure_cells(cells, {"smart": "plain", "lnsr": "plain"}))
    assert "which cannot be tested (1 and 7 seeds)" in text
    assert text.endswith("One seed proves nothing; only one run has a score for lnsr on mrpc.")
    assert MAJORITY not in text

"""The box plots and heat maps of a study: what their artists show."""

from dataclasses import replace

import numpy as np
import pytest
from support.drawn_artists import crosses_and_dots, draw, points_of
from support.study_cells import BASELINES, make_cell, make_grid, make_row, rte_results

from minbert.report.picture_style import COLORS, FAILED
from study.comparisons import measure_cells
from study.pictures import box_figure, heat_figures

pytestmark = pytest.mark.filterwarnings("error")


def test_each_run_is_a_dot_of_the_box_plot(tmp_path):
    results = rte_results(tmp_path)
    figure = box_figure(results)
    for row, (result, color) in enumerate(zip(results, COLORS)):
        cell = result.cell
        expected = [100 * run.score for run in cell.rows if run.score is not None and not run.failed]
        dots = points_of(figure, color)
        np.testing.assert_allclose(sorted(dots[:, 0]), sorted(expected), rtol=1e-12)
        assert np.all(np.abs(dots[:, 1] - row) <= 0.2)  # in the row of this cell
        assert len(np.unique(dots[:, 1])) == len(dots)  # equal scores do not hide each other


def test_failed_runs_are_crosses(tmp_path):
    results = rte_results(tmp_path)
    figure = box_figure(results)
    np.testing.assert_allclose(points_of(figure, FAILED)[:, 0], [52.71])
    assert round(points_of(figure, FAILED)[0, 1]) == 0  # the row of plain
    axes = figure.axes[0]
    at_edge = [a for a in crosses_and_dots(figure) if a.get_offset_transform() == axes.get_yaxis_transform()]
    (without_score,) = at_edge
    ((x, y),) = without_score.get_offsets()
    assert x < 0.02 and round(y) == 2  # lnsr
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"run", "failed run", "no score"} <= set(names)


def test_the_line_is_the_median_of_the_baseline(tmp_path):
    results = rte_results(tmp_path)
    dashed = [line for line in box_figure(results).axes[0].get_lines() if line.get_linestyle() == "--"]
    median = 100 * np.median(results[0].cell.scores)
    assert [line.get_xdata()[0] for line in dashed] == pytest.approx([median] * 3)
    assert [tuple(line.get_ydata()) for line in dashed] == [(-0.5, 0.5), (0.5, 1.5), (1.5, 2.5)]  # one line


def test_without_a_baseline_there_is_no_such_line(tmp_path):
    results = [replace(result, baseline=None, comparison=None) for result in rte_results(tmp_path)]
    assert not [line for line in box_figure(results).axes[0].get_lines() if line.get_linestyle() == "--"]


def test_each_field_of_a_grid_has_the_median_of_its_own_baseline(tmp_path):
    results = measure_cells(make_grid(tmp_path), BASELINES)
    dashed = [line for line in box_figure(results).axes[0].get_lines() if line.get_linestyle() == "--"]
    medians = [100 * np.median(result.cell.scores) for result in results[:6]]  # of plain
    assert [line.get_xdata()[0] for line in dashed] == pytest.approx(medians * 2)


def test_boxes_have_the_quartiles(tmp_path):
    results = rte_results(tmp_path)
    boxes = [patch.get_path().get_extents() for patch in box_figure(results).axes[0].patches]
    for box, result in zip(boxes, results, strict=True):
        expected = 100 * np.percentile(result.cell.scores, [25, 75])
        np.testing.assert_allclose([box.x0, box.x1], expected)


def test_two_runs_have_no_box(tmp_path):
    (result,) = measure_cells([make_cell([make_row(tmp_path, "plain", i, 0.6 + 0.01 * i) for i in range(2)])], {})
    assert len(box_figure([result]).axes[0].patches) == 0
    assert len(points_of(box_figure([result]), COLORS[0])) == 2


def test_the_papers_mean_and_deviation_stand_beside_ours(tmp_path):
    results = rte_results(tmp_path)
    axes = box_figure(results).axes[0]
    for row, (bars, result) in enumerate(zip(axes.containers, results, strict=True)):
        diamond, _, (bar,) = bars.lines
        mean, std = result.cell.paper["mean"], result.cell.paper["std"]
        assert diamond.get_xdata()[0] == mean and diamond.get_marker() == "D"
        assert diamond.get_ydata()[0] > row + 0.25  # below the box
        np.testing.assert_allclose(bar.get_segments()[0][:, 0], [mean - std, mean + std])


def test_a_paper_without_deviation_is_a_diamond_alone(tmp_path):
    results = [replace(r, cell=replace(r.cell, paper={"mean": 70.0})) for r in rte_results(tmp_path)]
    figure = draw(box_figure(results), tmp_path)
    assert all(bars.lines[2] == () for bars in figure.axes[0].containers)
    assert "paper: mean" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_fields_of_a_heat_map(tmp_path):
    results = measure_cells(make_grid(tmp_path), BASELINES)
    results = results[::-1]  # the axes are in order in any case
    maps = dict(heat_figures(results))
    assert list(maps) == ["no_correction on rte", "plain on rte"]
    axes = maps["no_correction on rte"].axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("epochs", "lr")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3", "10"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1e-5", "2e-5", "5e-4"]
    means = {(r.cell.point["epochs"], r.cell.point["lr"]): 100 * np.mean(r.cell.scores) for r in results[:6]}
    expected = [[means[epochs, lr] for lr in (1e-5, 2e-5, 5e-4)] for epochs in (3, 10)]
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    failed = [["", "", "\n(3)"]] * 2
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    for y in range(2):
        for x in range(3):
            assert texts[y, x] == f"{expected[y][x]:.2f}{failed[y][x]}"
    limits = {figure.axes[0].images[0].get_clim() for figure in maps.values()}
    every_mean = [100 * np.mean(result.cell.scores) for result in results]
    assert limits == {(min(every_mean), max(every_mean))}  # one scale for both methods


def test_a_third_setting_of_a_grid_gives_more_heat_maps(tmp_path):
    results = measure_cells(make_grid(tmp_path)[:6], {})
    thirds = [
        replace(r, cell=replace(r.cell, point=r.cell.point | {"clip": clip})) for clip in (True, False) for r in results
    ]
    assert [title for title, _ in heat_figures(thirds)] == ["plain on rte, clip true", "plain on rte, clip false"]
    assert heat_figures(rte_results(tmp_path / "no grid")) == []


def test_a_field_without_runs_or_without_scores(tmp_path):
    cells = make_grid(tmp_path)[:5]  # of 6 fields
    rows = [make_row(tmp_path, "plain", seed, None, point=cells[4].point) for seed in range(2)]
    results = measure_cells([*cells[:4], make_cell(rows)], {})
    ((_, figure),) = heat_figures(results)
    texts = [text.get_text() for text in draw(figure, tmp_path).axes[0].texts]
    assert texts[4:] == ["–\n(2)", ""]

"""The curves of a study: what their artists show."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from support.drawn_artists import draw, lines_of, points_of
from support.study_cells import make_cell, make_row, rte_results

from minbert.report.picture_style import COLORS, FAILED
from study.comparisons import measure_cells
from study.curves import best_figure, curve_figure, loss_curve, loss_figure, mean_curve
from study.seed_effects import expected_best

pytestmark = pytest.mark.filterwarnings("error")


def test_score_curves_are_means_with_a_band(tmp_path):
    results = rte_results(tmp_path)
    figure = curve_figure(results)
    for i, result in enumerate(results):
        values = [
            [100 * row.history[epoch]["dev"]["score"] for row in result.cell.rows if row.history] for epoch in range(3)
        ]
        np.testing.assert_allclose(lines_of(figure)[i], [[k + 1, np.mean(values[k])] for k in range(3)])
        band = figure.axes[0].collections[i]
        assert isinstance(band, PolyCollection)
        ys = {x: [] for x in (1, 2, 3)}
        for x, y in band.get_paths()[0].vertices:
            ys[round(x)].append(y)
        for k in range(3):
            deviation = np.std(values[k], ddof=1)
            np.testing.assert_allclose(
                [min(ys[k + 1]), max(ys[k + 1])], [np.mean(values[k]) - deviation, np.mean(values[k]) + deviation]
            )


def test_loss_curves_are_read_from_the_logs(tmp_path):
    results = rte_results(tmp_path)
    lines = lines_of(curve_figure(results), axes=1)
    for line, result in zip(lines, results, strict=True):
        curves = [loss_curve(row) for row in result.cell.rows]
        assert line[:, 0].tolist() == [10, 20, 30, 40, 50, 60]
        np.testing.assert_allclose(line[:, 1], [np.mean([curve[x] for curve in curves]) for x in line[:, 0]])


def test_unreadable_lines_of_a_log_are_left_out(tmp_path):
    row = make_row(tmp_path, "plain", 0, 0.7)
    bad = ["{", "[1, 2]", '{"step": 2}', '{"step": 3, "loss": NaN}', '{"step": "x", "loss": 1}', "\xff"]
    bad += ['{"step": 4, "loss": null}', '{"step": 4, "loss": true}', "[" * 100_000]
    lines = ['{"step": 1, "loss": 0.5}', *bad, '{"step": 5, "loss": 0.25}', '{"step": 6, "lo']
    (row.folder / "log.jsonl").write_text("\n".join(lines), encoding="latin-1")
    assert loss_curve(row) == {1: 0.5, 5: 0.25}
    (row.folder / "log.jsonl").unlink()
    assert loss_curve(row) == {}


def test_the_mean_of_curves_of_unequal_lengths():
    xs, means, deviations = mean_curve([{1: 2.0, 2: 4.0, 3: 9.0}, {1: 4.0, 2: 8.0}, {}])
    assert xs.tolist() == [1, 2, 3]
    assert means.tolist() == [3.0, 6.0, 9.0]
    np.testing.assert_allclose(deviations, [2**0.5, 8**0.5, 0])


def test_a_task_of_a_run_of_several_has_its_own_score_curve_and_no_loss(tmp_path):
    rows = []
    for seed, score in enumerate((0.5, 0.7)):
        history = [{"epoch": epoch, "dev": {"score": score * epoch / 2}} for epoch in (1, 2)]
        rows.append(make_row(tmp_path, "plain", seed, score, "sst5+quora", history=history))
    (result,) = measure_cells([make_cell(rows, task="sst5")], {})
    figure = curve_figure([result])
    assert len(figure.axes) == 1  # the loss of the run is not that of one task
    np.testing.assert_allclose(lines_of(draw(figure, tmp_path))[0], [[1, 30], [2, 60]])
    assert loss_figure([result]) is None


def test_one_epoch_is_no_curve(tmp_path):
    history = [{"epoch": 1, "dev": {"score": 0.7}}]
    (result,) = measure_cells([make_cell([make_row(tmp_path, "plain", i, 0.7, history=history) for i in range(2)])], {})
    assert [axes.get_xlabel() for axes in curve_figure([result]).axes] == ["step"]
    for row in result.cell.rows:
        (row.folder / "log.jsonl").write_text('{"step": 4, "loss": 0.5}\n', encoding="utf-8")
    assert curve_figure([result]) is None


def test_score_against_training_loss(tmp_path):
    results = rte_results(tmp_path)
    figure = loss_figure(results)
    for result, color in zip(results, COLORS):
        expected = sorted((row.train_loss, 100 * row.score) for row in result.cell.rows if row.score is not None)
        np.testing.assert_allclose(sorted(points_of(figure, color).tolist()), expected)
    np.testing.assert_allclose(points_of(figure, FAILED)[:, 1], [52.71])


def test_expected_best_of_k_runs(tmp_path):
    results = rte_results(tmp_path)
    for line, result in zip(lines_of(best_figure(results)), results, strict=True):
        best = expected_best(result.cell.scores)
        np.testing.assert_allclose(line, [[k, 100 * value] for k, value in enumerate(best, start=1)])
        assert line[-1, 1] <= 100 * max(result.cell.scores)


def test_one_score_is_not_a_curve_of_the_best(tmp_path):
    one = make_cell([make_row(tmp_path, "plain", 0, 0.7)])
    two = make_cell([make_row(tmp_path, "smart", seed, 0.7) for seed in range(2)])
    assert best_figure(measure_cells([one], {})) is None
    assert best_figure(measure_cells([one, two], {})) is not None

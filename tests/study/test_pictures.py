"""The pictures of a study: what the artists of each picture show, and the files."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from support.drawn_texts import drawn_texts
from support.study_cells import make_cell, make_cells, make_grid, make_row

from minbert.errors import escape
from minbert.report.picture_style import COLORS, FAILED, INK, line_style, save_picture
from study.comparisons import measure_cells
from study.curves import best_figure, curve_figure, loss_curve, loss_figure, mean_curve
from study.pictures import box_figure, heat_figures
from study.results import Cell, Result
from study.seed_effects import expected_best

pytestmark = pytest.mark.filterwarnings("error")
BASELINES = {"smart": "plain", "lnsr": "plain", "no_correction": "plain"}


def rte(folder: Path) -> list[Result]:
    """plain (one failed run), smart, lnsr (one run without a score)."""
    return [result for result in measure_cells(make_cells(folder), BASELINES) if result.cell.task == "rte"]


def crosses_and_dots(figure: Figure) -> list[PathCollection]:
    return [artist for artist in figure.axes[0].collections if isinstance(artist, PathCollection)]


def points_of(figure: Figure, color: str) -> np.ndarray:
    """The positions [N,2] of the points with this colour, in the coordinates of the data."""
    found = [np.zeros((0, 2))]
    for artist in crosses_and_dots(figure):
        in_data = artist.get_offset_transform() == figure.axes[0].transData
        if in_data and len(artist.get_facecolors()) and to_hex(artist.get_facecolors()[0]) == color.lower():
            found.append(np.asarray(artist.get_offsets()))
    return np.concatenate(found)


def lines_of(figure: Figure, axes: int = 0) -> list[np.ndarray]:
    """The points [N,2] of each line."""
    return [np.asarray(line.get_xydata()) for line in figure.axes[axes].get_lines()]


def draw(figure: Figure, folder: Path) -> Figure:
    """Save the picture, which places all labels."""
    save_picture(figure, folder / "picture")
    return figure


def test_each_run_is_a_dot_of_the_box_plot(tmp_path):
    results = rte(tmp_path)
    figure = box_figure(results)
    for row, (result, color) in enumerate(zip(results, COLORS)):
        cell = result.cell
        expected = [100 * run.score for run in cell.rows if run.score is not None and not run.failed]
        dots = points_of(figure, color)
        np.testing.assert_allclose(sorted(dots[:, 0]), sorted(expected), rtol=1e-12)
        assert np.all(np.abs(dots[:, 1] - row) <= 0.2)  # in the row of this cell
        assert len(np.unique(dots[:, 1])) == len(dots)  # equal scores do not hide each other


def test_failed_runs_are_crosses(tmp_path):
    results = rte(tmp_path)
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
    results = rte(tmp_path)
    dashed = [line for line in box_figure(results).axes[0].get_lines() if line.get_linestyle() == "--"]
    median = 100 * np.median(results[0].cell.scores)
    assert [line.get_xdata()[0] for line in dashed] == pytest.approx([median] * 3)
    assert [tuple(line.get_ydata()) for line in dashed] == [(-0.5, 0.5), (0.5, 1.5), (1.5, 2.5)]  # one line


def test_without_a_baseline_there_is_no_such_line(tmp_path):
    results = [replace(result, baseline=None, comparison=None) for result in rte(tmp_path)]
    assert not [line for line in box_figure(results).axes[0].get_lines() if line.get_linestyle() == "--"]


def test_each_field_of_a_grid_has_the_median_of_its_own_baseline(tmp_path):
    results = measure_cells(make_grid(tmp_path), BASELINES)
    dashed = [line for line in box_figure(results).axes[0].get_lines() if line.get_linestyle() == "--"]
    medians = [100 * np.median(result.cell.scores) for result in results[:6]]  # of plain
    assert [line.get_xdata()[0] for line in dashed] == pytest.approx(medians * 2)


def test_boxes_have_the_quartiles(tmp_path):
    results = rte(tmp_path)
    boxes = [patch.get_path().get_extents() for patch in box_figure(results).axes[0].patches]
    for box, result in zip(boxes, results, strict=True):
        expected = 100 * np.percentile(result.cell.scores, [25, 75])
        np.testing.assert_allclose([box.x0, box.x1], expected)


def test_two_runs_have_no_box(tmp_path):
    (result,) = measure_cells([make_cell([make_row(tmp_path, "plain", i, 0.6 + 0.01 * i) for i in range(2)])], {})
    assert len(box_figure([result]).axes[0].patches) == 0
    assert len(points_of(box_figure([result]), COLORS[0])) == 2


def test_the_papers_mean_and_deviation_stand_beside_ours(tmp_path):
    results = rte(tmp_path)
    axes = box_figure(results).axes[0]
    for row, (bars, result) in enumerate(zip(axes.containers, results, strict=True)):
        diamond, _, (bar,) = bars.lines
        mean, std = result.cell.paper["mean"], result.cell.paper["std"]
        assert diamond.get_xdata()[0] == mean and diamond.get_marker() == "D"
        assert diamond.get_ydata()[0] > row + 0.25  # below the box
        np.testing.assert_allclose(bar.get_segments()[0][:, 0], [mean - std, mean + std])


def test_a_paper_without_deviation_is_a_diamond_alone(tmp_path):
    results = [replace(r, cell=replace(r.cell, paper={"mean": 70.0})) for r in rte(tmp_path)]
    figure = draw(box_figure(results), tmp_path)
    assert all(bars.lines[2] == () for bars in figure.axes[0].containers)
    assert "paper: mean" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_score_curves_are_means_with_a_band(tmp_path):
    results = rte(tmp_path)
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
    results = rte(tmp_path)
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
    results = rte(tmp_path)
    figure = loss_figure(results)
    for result, color in zip(results, COLORS):
        expected = sorted((row.train_loss, 100 * row.score) for row in result.cell.rows if row.score is not None)
        np.testing.assert_allclose(sorted(points_of(figure, color).tolist()), expected)
    np.testing.assert_allclose(points_of(figure, FAILED)[:, 1], [52.71])


def test_expected_best_of_k_runs(tmp_path):
    results = rte(tmp_path)
    for line, result in zip(lines_of(best_figure(results)), results, strict=True):
        best = expected_best(result.cell.scores)
        np.testing.assert_allclose(line, [[k, 100 * value] for k, value in enumerate(best, start=1)])
        assert line[-1, 1] <= 100 * max(result.cell.scores)


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
    assert heat_figures(rte(tmp_path / "no grid")) == []


def test_a_field_without_runs_or_without_scores(tmp_path):
    cells = make_grid(tmp_path)[:5]  # of 6 fields
    rows = [make_row(tmp_path, "plain", seed, None, point=cells[4].point) for seed in range(2)]
    results = measure_cells([*cells[:4], make_cell(rows)], {})
    ((_, figure),) = heat_figures(results)
    texts = [text.get_text() for text in draw(figure, tmp_path).axes[0].texts]
    assert texts[4:] == ["–\n(2)", ""]


def test_nothing_to_draw_gives_no_picture(tmp_path):
    rows = [make_row(tmp_path, "plain", 0, None)]
    (rows[0].folder / "log.jsonl").unlink()
    for cell in (make_cell(rows), Cell("rte", "plain", {})):
        results = measure_cells([cell], {})
        assert box_figure(results) is curve_figure(results) is loss_figure(results) is best_figure(results) is None
        assert heat_figures(results) == []


def all_figures(results: list[Result]) -> Iterator[Figure]:
    """Each kind of picture."""
    yield from (box_figure(results), curve_figure(results), loss_figure(results), best_figure(results))
    yield from (figure for _, figure in heat_figures(results))


def test_the_same_scores_give_the_same_bytes(tmp_path):
    results = [*rte(tmp_path / "rte"), *measure_cells(make_grid(tmp_path / "grid")[:6], {})]
    for i, (first, second) in enumerate(zip(all_figures(results), all_figures(results))):
        save_picture(first, tmp_path / f"{i}-a")
        save_picture(second, tmp_path / f"{i}-b")
        for kind in ("png", "svg"):
            assert (tmp_path / f"{i}-a.{kind}").read_bytes() == (tmp_path / f"{i}-b.{kind}").read_bytes()
        assert b"<dc:date>" not in (tmp_path / f"{i}-a.svg").read_bytes()
        assert b"Software" not in (tmp_path / f"{i}-a.png").read_bytes()


def test_saving_leaves_only_the_two_files(tmp_path):
    save_picture(box_figure(rte(tmp_path / "runs")), tmp_path / "new" / "folder" / "x.y")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["x.y.png", "x.y.svg"]
    ET.parse(tmp_path / "new" / "folder" / "x.y.svg")
    assert imread(tmp_path / "new" / "folder" / "x.y.png").shape[1] == 1400  # 7 inches


def test_the_users_settings_of_matplotlib_have_no_effect_and_stay(tmp_path):
    results = rte(tmp_path)
    save_picture(box_figure(results), tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "red", "lines.linewidth": 9}):
        save_picture(box_figure(results), tmp_path / "b")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def many_methods(folder: Path, names: list[str]) -> list[Result]:
    cells = []
    for i, name in enumerate(names):
        scores = [0.6 + 0.01 * i + 0.005 * seed for seed in range(4)]
        rows = [make_row(folder / str(i), escape(name).replace("/", "-")[:30], s, x) for s, x in enumerate(scores)]
        cells.append(make_cell([replace(row, method=name) for row in rows], method=name))
    return measure_cells(cells, dict.fromkeys(names[1:], names[0]))


def test_no_text_overlaps_with_twelve_long_names(tmp_path, monkeypatch):
    results = many_methods(tmp_path, [f"{'a-method-name'}-{i:06d}" for i in range(12)])
    assert len(results[0].cell.method) == 20
    figures = [draw(figure, tmp_path) for figure in all_figures(results)]
    for figure, kind in itertools.product(figures, ("png", "svg")):
        boxes = drawn_texts(figure, kind, monkeypatch)
        assert len([text for text, _ in boxes if text.startswith("a-method")]) == 12
        for i, (_, box) in enumerate(boxes):
            assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1
            assert not any(box.overlaps(other) for _, other in boxes[i + 1 :])
        assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 9


def test_both_files_of_a_picture_have_one_layout(tmp_path, monkeypatch):
    """The layout is found once, and stays as it is while the two files are written."""
    figure, positions = box_figure(rte(tmp_path)), []
    executed = []
    engine = figure.get_layout_engine()
    monkeypatch.setattr(engine, "execute", lambda figure: executed.append(type(engine).execute(engine, figure)))
    before, savefig = figure.axes[0].get_position().bounds, figure.savefig

    def record(*arguments, **options) -> None:
        savefig(*arguments, **options)
        positions.append(figure.axes[0].get_position().bounds)

    monkeypatch.setattr(figure, "savefig", record)
    save_picture(figure, tmp_path / "picture")
    assert len(executed) == 1 and len(positions) == 2
    assert positions[0] == positions[1] != before


def test_thirteen_lines_look_different():
    looks = {(look["color"], look["marker"], str(look["linestyle"])) for look in map(line_style, range(13))}
    assert len(looks) == 13
    assert len(set(COLORS)) == 8 and FAILED not in COLORS and INK not in COLORS


def test_odd_names_are_drawn_without_a_warning(tmp_path, monkeypatch):
    names = ["plain", "_hidden", r"$\frac$ and", "日本語", "a" * 300, "a\nb", "%d {x} \\"]
    results = many_methods(tmp_path / "runs", names)
    for figure in (box_figure(results), best_figure(results)):
        texts = [text.strip() for text, _ in drawn_texts(draw(figure, tmp_path), "svg", monkeypatch)]
        assert {"plain", "_hidden", r"$\frac$ and", "???", "a?b", "%d {x} \\"} <= set(texts)
        assert max(map(len, texts)) <= 42

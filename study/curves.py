"""The pictures of a study with lines and points: curves over training, score against loss, expected best of k runs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.report.picture_style import FAILED, add_legend, line_style, new_figure, style
from minbert.training.step_lines import is_number, read_log
from study.cell_names import name_lines
from study.results import Cell, Result, Row
from study.seed_effects import expected_best

Curve = dict[int, float]  # epoch or step -> value of one run

MOST_BANDS = 6  # with more lines in a picture the bands hide each other and are left out


def curve_figure(results: Sequence[Result]) -> Figure | None:
    """Dev score after each epoch, and training loss over the steps: means over the runs, bands of one std.

    A panel without any curve of two points is left out: after one epoch the box plot shows the same scores. None if no
    panel is left.
    """
    cells = [result.cell for result in results]
    scores = [[score_curve(row) for row in cell.rows] for cell in cells]
    losses = [[loss_curve(row) for row in cell.rows] if cell.is_whole_run else [] for cell in cells]
    panels = [
        (curves, x, y)
        for curves, x, y in ((scores, "epoch", "dev score (points)"), (losses, "step", "training loss"))
        if any(len(curve) > 1 for of_cell in curves for curve in of_cell)
    ]
    if not panels:
        return None
    with style():
        figure = new_figure(height=3.1 + 0.1 * len(cells))
        for axes, (curves, x, y) in zip(np.ravel(figure.subplots(1, len(panels), squeeze=False)), panels):
            for i, of_cell in enumerate(curves):
                draw_mean_curve(axes, of_cell, i, markers=x == "epoch", band=len(cells) <= MOST_BANDS)
            axes.set(xlabel=x, ylabel=y)
            axes.grid()
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.suptitle(name_lines(cells)[0], x=0.02, ha="left", fontsize=11)
        add_legend(figure, line_legend(cells))
        return figure


def score_curve(row: Row) -> Curve:
    """{epoch: dev score in points}"""
    return {entry["epoch"]: 100 * entry["dev"]["score"] for entry in row.history}


def loss_curve(row: Row) -> Curve:
    """{step: loss} from the run's log."""
    entries = [entry for entry in read_log(row.folder) if is_number(entry.get("step")) and is_number(entry.get("loss"))]
    return {entry["step"]: entry["loss"] for entry in entries}


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, mean and standard deviation [P] over the runs that have a value there; 0 for a single run."""
    xs = sorted({x for curve in curves for x in curve})
    values = [[curve[x] for curve in curves if x in curve] for x in xs]
    means = [np.mean(at_x) for at_x in values]
    deviations = [np.std(at_x, ddof=1) if len(at_x) > 1 else 0.0 for at_x in values]
    return np.array(xs), np.array(means), np.array(deviations)


def draw_mean_curve(axes: Axes, curves: Sequence[Curve], index: int, markers: bool, band: bool) -> None:
    """The mean of the runs as a line, with a band of one standard deviation."""
    xs, means, deviations = mean_curve(curves)
    if len(xs) == 0:
        return
    look = line_style(index)
    if not markers and len(xs) > 1:
        look["marker"] = "none"  # one marker for each logged step would hide the line
    axes.plot(xs, means, linewidth=1.6, markersize=5, **look)
    if band and any(deviations):
        axes.fill_between(xs, means - deviations, means + deviations, color=look["color"], alpha=0.15, linewidth=0)


def line_legend(cells: Sequence[Cell], with_lines: bool = True) -> list[Line2D]:
    """One entry for each cell, in the look of its line."""
    handles = []
    for i, name in enumerate(name_lines(cells)[1]):
        look = line_style(i) if with_lines else line_style(i) | {"linestyle": "none"}
        handles.append(Line2D([], [], markersize=5, linewidth=1.6, label=name, **look))
    return handles


def loss_figure(results: Sequence[Result]) -> Figure | None:
    """Dev score against training loss, a point for each run, crosses for failed runs. None if no run has both."""
    cells = [result.cell for result in results if result.cell.is_whole_run]
    rows_of_cells = [[row for row in cell.scored_rows if is_number(row.train_loss)] for cell in cells]
    if not any(rows_of_cells):
        return None
    with style():
        figure = new_figure(height=3.9 + 0.1 * len(cells))
        axes = figure.add_subplot()
        for i, rows in enumerate(rows_of_cells):
            losses = np.array([row.train_loss for row in rows])
            scores = 100 * np.array([row.score for row in rows])
            failed = np.array([row.failed for row in rows], bool)
            look = line_style(i)
            axes.scatter(losses, scores, s=30, color=look["color"], marker=look["marker"], alpha=0.8,
                         edgecolors="white", linewidths=0.5, zorder=3)  # fmt: skip
            axes.scatter(losses[failed], scores[failed], s=60, color=FAILED, marker="x", linewidths=1.3, zorder=4)
        axes.set(xlabel="training loss in the last epoch", ylabel="dev score (points)")
        axes.set_title(name_lines(cells)[0], loc="left")
        axes.grid()
        handles = line_legend(cells, with_lines=False)
        if any(row.failed for rows in rows_of_cells for row in rows):
            handles.append(Line2D([], [], linestyle="none", marker="x", color=FAILED, label="failed run"))
        add_legend(figure, handles)
        return figure


def best_figure(results: Sequence[Result]) -> Figure | None:
    """The expected best dev score of k runs, k = 1 to n (Dodge et al. 2019). None if no cell has two scores."""
    cells = [result.cell for result in results]
    if not any(len(cell.scores) > 1 for cell in cells):
        return None
    with style():
        figure = new_figure(height=3.7 + 0.1 * len(cells))
        axes = figure.add_subplot()
        for i, cell in enumerate(cells):
            best = 100 * np.array(expected_best(cell.scores))
            if len(best):
                axes.plot(np.arange(1, len(best) + 1), best, markersize=4.5, linewidth=1.6, **line_style(i))
        axes.set(xlabel="k, the number of runs", ylabel="expected best dev score (points)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(name_lines(cells)[0], loc="left")
        axes.grid()
        add_legend(figure, line_legend(cells))
        return figure

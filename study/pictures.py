"""The pictures of a study with boxes and fields: the scores of all runs, and heat maps of a grid.

Scores are shown in points, as in the tables.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.report.picture_style import COLORS, FAILED, GREY, INK, PAPER, WIDTH, add_legend, label, new_figure, style
from minbert.training.step_lines import is_number
from study.cell_names import name_lines, varied_settings
from study.formats import describe_point, format_points, format_setting
from study.results import Cell, Result


def box_figure(results: Sequence[Result]) -> Figure | None:
    """The scores of all runs on one task: a row for each cell. None without any score.

    A box shows the middle half of the runs. Each run is a dot, a failed run is a cross. A failed run without a score
    is a cross at the left edge. A dashed line shows the median of the cell that this row is compared with.
    """
    if not any(result.cell.scores for result in results):
        return None
    with style():
        has_paper = any("mean" in result.cell.paper for result in results)
        spacing = 0.5 if has_paper else 0.4
        figure = new_figure(height=1.35 + spacing * len(results))
        axes = figure.add_subplot()
        title, labels = name_lines([result.cell for result in results])
        methods = list(dict.fromkeys(result.cell.method for result in results))
        for i, result in enumerate(results):
            draw_box_row(axes, i, result, COLORS[methods.index(result.cell.method) % len(COLORS)])
            median = baseline_median(result, results)
            if median is not None:
                axes.plot([100 * median] * 2, [i - 0.5, i + 0.5], color=INK, linestyle="--", linewidth=1, zorder=3)
        axes.set_yticks(range(len(results)), labels)
        axes.set_ylim(len(results) - 0.4, -0.6)  # the first row on top
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("dev score (points)")
        axes.set_title(title, loc="left")
        axes.grid(axis="x")
        add_legend(figure, box_legend(results))
        return figure


def draw_box_row(axes: Axes, i: int, result: Result, color: str) -> None:
    """Box, runs and the paper's numbers of one cell in row i."""
    cell = result.cell
    scores = 100 * np.array(cell.scores)
    if len(scores) > 2:  # quartiles of two runs say nothing
        axes.boxplot(
            scores,
            positions=[i],
            widths=0.5,
            orientation="horizontal",
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": color, "alpha": 0.28, "edgecolor": color},
            medianprops={"color": INK, "linewidth": 2},
            whiskerprops={"color": color},
            capprops={"color": color},
            zorder=2,
        )
    failed = np.array([row.failed for row in cell.scored_rows], bool)
    heights = i + jitter(len(scores))
    axes.scatter(scores[~failed], heights[~failed], s=16, color=color, edgecolors="white", linewidths=0.5, zorder=4)
    axes.scatter(scores[failed], heights[failed], s=30, color=FAILED, marker="x", linewidths=1.5, zorder=4)
    without_score = len(cell.rows) - len(scores)
    if without_score:
        edge = np.full(without_score, 0.008)  # of the width of the axes
        axes.scatter(edge, i + jitter(without_score), s=30, color=INK, marker="x", linewidths=1.5, zorder=4,
                     transform=axes.get_yaxis_transform(), clip_on=False)  # fmt: skip
    if "mean" in cell.paper:
        axes.errorbar(cell.paper["mean"], i + 0.38, xerr=cell.paper.get("std"), color=PAPER, marker="D", markersize=5,
                      capsize=3, linestyle="none", zorder=5)  # fmt: skip


def baseline_median(result: Result, results: Sequence[Result]) -> float | None:
    """The median of the cell that this one is compared with; its own if others are compared with it."""
    if result.comparison is not None:
        return result.baseline.summary["median"]
    is_baseline = any(other.comparison is not None and other.baseline.cell is result.cell for other in results)
    return result.summary["median"] if is_baseline else None


def jitter(count: int) -> np.ndarray:
    """Offsets [count] from -.2 to .2, the same in each call. Multiples of the golden ratio keep neighbours apart."""
    return 0.4 * ((np.arange(count) * 0.6180339887 + 0.5) % 1 - 0.5)


def box_legend(results: Sequence[Result]) -> list[Line2D]:
    """Only the symbols that the picture has."""
    rows = [row for result in results for row in result.cell.rows]
    handles = [Line2D([], [], linestyle="none", marker="o", color=GREY, markersize=4, label="run")]
    if any(row.failed and row.score is not None for row in rows):
        handles.append(Line2D([], [], linestyle="none", marker="x", color=FAILED, markersize=5, label="failed run"))
    if any(row.score is None for row in rows):
        handles.append(Line2D([], [], linestyle="none", marker="x", color=INK, markersize=5, label="no score"))
    if any(result.comparison is not None for result in results):
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, label="baseline's median"))
    if any("mean" in result.cell.paper for result in results):
        text = "paper: mean ± std" if any("std" in result.cell.paper for result in results) else "paper: mean"
        handles.append(Line2D([], [], color=PAPER, marker="D", markersize=5, label=text))
    return handles


def heat_figures(results: Sequence[Result]) -> list[tuple[str, Figure]]:
    """(title, heat map of the mean scores) for each method and value of the further settings on one task.

    The axes are the first two settings with several values in that method. A method with fewer such settings has none.
    """
    scored = [100 * result.summary["mean"] for result in results if result.cell.scores]
    figures = []
    for method in dict.fromkeys(result.cell.method for result in results):
        of_method = [result for result in results if result.cell.method == method]
        varied = varied_settings([result.cell for result in of_method])
        if len(varied) < 2 or not scored:
            continue
        rest = [name for name in of_method[0].cell.point if name not in varied[:2]]
        fixed = {describe_point(result.cell.point, rest): [] for result in of_method}
        for result in of_method:
            fixed[describe_point(result.cell.point, rest)].append(result)
        for point, group in fixed.items():
            title = f"{method} on {group[0].cell.task}" + (f", {point}" if point else "")
            figures.append((title, heat_figure(group, varied[:2], title, (min(scored), max(scored)))))
    return figures


def heat_figure(results: Sequence[Result], names: Sequence[str], title: str, limits: tuple[float, float]) -> Figure:
    """Mean scores by two settings: the first one down, the second one across. A number in each field.

    The number of failed runs follows in brackets. `limits` are the ends of the colours, in points.
    """
    ys, xs = [axis_values([result.cell for result in results], name) for name in names]
    means = np.full((len(ys), len(xs)), np.nan)  # [Y,X]
    cells: dict[tuple[int, int], Cell] = {}
    for result in results:
        y, x = [values.index(result.cell.point.get(name)) for values, name in zip((ys, xs), names)]
        cells[y, x] = result.cell
        if result.cell.scores:
            means[y, x] = 100 * result.summary["mean"]
    low, high = limits if limits[1] - limits[0] > 0.01 else (limits[0] - 0.5, limits[1] + 0.5)
    with style():
        figure = new_figure(height=1.3 + 0.55 * len(ys), width=max(WIDTH, 2.6 + 0.62 * len(xs)))
        axes = figure.add_subplot()
        image = axes.imshow(means, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        for y, x in itertools.product(range(len(ys)), range(len(xs))):
            is_dark = not np.isnan(means[y, x]) and means[y, x] < (low + high) / 2
            text = field_text(means[y, x], cells.get((y, x)))
            axes.text(x, y, text, ha="center", va="center", color="white" if is_dark else "black", fontsize=9.5)
        axes.set_xticks(range(len(xs)), [label(format_setting(value)) for value in xs])
        axes.set_yticks(range(len(ys)), [label(format_setting(value)) for value in ys])
        axes.set(xlabel=label(names[1]), ylabel=label(names[0]))
        axes.set_title(label(title), loc="left")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, label="mean dev score (points)")
        return figure


def axis_values(cells: Sequence[Cell], name: str) -> list:
    """The values of a setting: numbers in order, others in order of first appearance."""
    values = []
    for cell in cells:
        if cell.point.get(name) not in values:
            values.append(cell.point.get(name))
    return sorted(values) if all(map(is_number, values)) else values


def field_text(mean: float, cell: Cell | None) -> str:
    """72.23, below it (2) for two failed runs."""
    if cell is None:
        return ""
    text = "–" if np.isnan(mean) else format_points(mean / 100)
    return f"{text}\n({cell.failed})" if cell.failed else text

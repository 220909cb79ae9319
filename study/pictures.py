"""The pictures of a study: box plots and heat maps, and the style that all its pictures share.

Each function returns a matplotlib Figure that belongs to nothing else (no pyplot), so a thread can draw and nothing
is left behind. Scores are shown in points, as in the tables.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D

from minbert.files import write_file
from study.comparisons import Result, scored_rows, varied_settings
from study.results import Cell
from study.words import describe_point, name_cell, points, setting

WIDTH = 7.0  # inches. 700 pixels of a README show it at 100 pixels an inch, where a font of 9 pt is 12 pixels high.
INK, GREY = "#222222", "#767676"
FAILED, PAPER = "#C1121F", "#7A2E8E"  # crosses of failed runs; the paper's own numbers
# Okabe and Ito's colours, which readers of all kinds of colour vision can tell apart. Yellow is too pale on white, and
# a grey takes its place. After 8 methods the colours repeat with other markers and dashes.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8A8A8A")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "h", "*", "X", "p", "d")  # 13, so that colour and marker drift apart
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
LONGEST_NAME = 42  # characters in a picture; the tables have the whole name

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on all machines
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "text.parse_math": False,  # a $ in a name is a letter
    "axes.formatter.useoffset": False,
    "svg.fonttype": "path",  # letters as outlines: they look the same where the font is missing
    "svg.hashsalt": "minbert",  # the ids in an SVG file are random otherwise
}
LOCK = threading.RLock()  # matplotlib's settings are global


@contextmanager
def style() -> Iterator[None]:
    """Draw with this file's settings in place of the user's matplotlibrc, and put those back."""
    with LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save_picture(figure: Figure, path: Path) -> None:
    """Write path.png and path.svg, each whole or not at all. The same figure gives the same bytes: no date in them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        png, svg = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
        write_file(png, lambda file: figure.savefig(file, format="png", dpi=200, metadata={"Software": None}))
        write_file(svg, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, which finds room for its labels when it is drawn."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def line_style(index: int) -> dict:
    """Colour, marker and dashes of the line with this index."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLORS) % len(DASHES)],
    }


def label(text: str) -> str:
    """A name as a picture can show it: shortened, and with a question mark for a letter that the font does not have."""
    font = get_font(findfont("DejaVu Sans"))
    text = "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in text)
    if len(text) > LONGEST_NAME:
        text = f"{text[: LONGEST_NAME // 2]}…{text[-LONGEST_NAME // 2 + 1 :]}"
    return text


def name_lines(cells: Sequence[Cell]) -> tuple[str, list[str]]:
    """The title of a picture and the name of each cell in it. What all cells share is in the title alone."""
    task, names = cells[0].task, varied_settings(cells)
    if len(cells) > 1 and len({cell.method for cell in cells}) == 1:
        return label(f"{cells[0].method} on {task}"), [label(describe_point(cell.point, names)) for cell in cells]
    return label(task), [label(name_cell(cell, names)) for cell in cells]


def add_legend(figure: Figure, handles: Sequence[object]) -> None:
    """A legend below the axes, with as many columns as fit beside each other."""
    if handles:
        longest = max(len(handle.get_label()) for handle in handles)
        columns = max(1, int((figure.get_figwidth() - 0.2) / (0.6 + 0.083 * longest)))
        rows = -(-len(handles) // columns)
        columns = -(-len(handles) // rows)  # equally long rows
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6)


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
    failed = np.array([row.failed for row, _ in scored_rows(cell)], bool)
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
        return result.baseline_summary["median"]
    is_baseline = any(other.comparison is not None and other.baseline is result.cell for other in results)
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
        axes.set_xticks(range(len(xs)), [label(setting(value)) for value in xs])
        axes.set_yticks(range(len(ys)), [label(setting(value)) for value in ys])
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
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if is_number else values


def field_text(mean: float, cell: Cell | None) -> str:
    """72.23, below it (2) for two failed runs."""
    if cell is None:
        return ""
    text = "–" if np.isnan(mean) else points(mean / 100)
    return f"{text}\n({cell.failed})" if cell.failed else text

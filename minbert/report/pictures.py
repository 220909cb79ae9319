"""The pictures of a report: learning curves, confusion matrix, reliability diagram, predictions against labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.report.curves import Curve, Quantity
from minbert.report.picture_style import (
    COLORS,
    GREY,
    INK,
    WIDTH,
    add_legend,
    label,
    line_style,
    new_figure,
    style,
)
from minbert.report.scores import Bin

NARROW = 4.6  # inches, of pictures with one square
MOST_NUMBERS = 12  # classes: with more of them no number fits into a field
MOST_NAMES = 40  # classes: with more of them the names overlap
MANY_POINTS = 5000  # more points are drawn as pixels: as shapes they would make a huge SVG file
SHORT_NAME = 16  # characters of a class
PALE = "#CFE3F2"  # bars behind points


def curves_figure(curves: Mapping[str, Mapping[Quantity, Curve]], quantities: Sequence[Quantity]) -> Figure:
    """A panel for each quantity, with a line for each run, by the runs' names."""
    rows = -(-len(quantities) // 2)
    with style():
        figure = new_figure(height=2.2 * rows + 0.2 + 0.12 * len(curves))
        panels = figure.subplots(rows, min(2, len(quantities)), squeeze=False).ravel()
        for axes, quantity in zip(panels, quantities):
            for i, of_run in enumerate(curves.values()):
                draw_curve(axes, of_run.get(quantity, {}), i, markers=quantity.unit == "epoch")
            axes.set(xlabel=quantity.unit)
            axes.set_title(label(quantity.title), loc="left")
            axes.grid()
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # one epoch is one tick
            if quantity.kind == "lr":
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for axes in panels[len(quantities) :]:
            axes.remove()
        add_legend(figure, [Line2D([], [], linewidth=1.6, markersize=5, label=label(name), **line_style(i))
                            for i, name in enumerate(curves)])  # fmt: skip
        return figure


def draw_curve(axes: Axes, curve: Curve, index: int, markers: bool) -> None:
    """One line. A marker for each step would hide it, but a single point is seen by its marker only."""
    look = line_style(index)
    if not markers and len(curve) > 1:
        look["marker"] = "none"
    positions = sorted(curve)
    axes.plot(positions, [curve[x] for x in positions], linewidth=1.6, markersize=5, **look)


def confusion_figure(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Counts [C,C] as fields: a row for each label, a column for each prediction. Dark is a large share of the row."""
    classes = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with style():
        side = min(WIDTH, max(NARROW, 1.9 + 0.55 * min(classes, MOST_NUMBERS)))
        figure = new_figure(height=side - 0.4, width=side)
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="prediction", ylabel="label")
        axes.set_title(title, loc="left")
        axes.spines[:].set_visible(False)
        if classes <= MOST_NAMES:
            short = [shorten_class(name) for name in names]
            longest = max(map(len, short))
            turned = {"rotation": 90} if longest * classes > 36 else {}
            axes.set_xticks(range(classes), short, **turned)
            axes.set_yticks(range(classes), short)
        axes.tick_params(length=0)
        if classes <= MOST_NUMBERS:
            for i, j in np.ndindex(classes, classes):
                text = f"{counts[i, j]}\n{100 * shares[i, j]:.0f} %"
                axes.text(j, i, text, ha="center", va="center", color="white" if shares[i, j] > 0.65 else INK)
        return figure


def shorten_class(name: str) -> str:
    """The name of a class, shortened, so that it fits beside a field."""
    text = label(name)
    return text if len(text) <= SHORT_NAME else f"{text[: SHORT_NAME - 1]}…"


def calibration_figure(bins: Sequence[Bin], error: float, title: str) -> Figure:
    """A reliability diagram: accuracy against confidence. Below it the number of examples of each bin."""
    filled = [bin for bin in bins if bin.number]
    left = min(bin.low for bin in filled)
    with style():
        figure = new_figure(height=4.6, width=NARROW)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        look = {"width": bins[0].high - bins[0].low, "align": "edge", "edgecolor": "white"}
        upper.bar([b.low for b in filled], [b.accuracy for b in filled], color=PALE, **look)
        upper.plot([left, 1], [left, 1], color=INK, linestyle="--", linewidth=1.2)
        upper.plot([b.confidence for b in filled], [b.accuracy for b in filled], "o", color=COLORS[0], markersize=6)
        upper.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(left, 1))
        upper.set_title(f"{title}\nexpected calibration error {error:.3f}", loc="left")
        upper.grid(axis="y")
        lower.bar([b.low for b in filled], [b.number for b in filled], color=GREY, **look)
        lower.set(xlabel="confidence", ylabel="examples")
        lower.yaxis.get_major_locator().set_params(integer=True, nbins=3)
        entries = [("the examples of one bin", {"color": COLORS[0], "marker": "o", "linestyle": "none"}),
                   ("perfectly calibrated", {"color": INK, "linestyle": "--"})]  # fmt: skip
        add_legend(figure, [Line2D([], [], label=text, **look) for text, look in entries])
        return figure


def scatter_figure(labels: np.ndarray, predictions: np.ndarray, correlations: str, title: str) -> Figure:
    """A point for each example of a regression: its prediction over its label. On the dashed line both are equal."""
    low, high = min(labels.min(), predictions.min()), max(labels.max(), predictions.max())
    margin = 0.04 * ((high - low) or 1.0)
    limits = (low - margin, high + margin)
    with style():
        figure = new_figure(height=4.4, width=NARROW)
        axes = figure.add_subplot()
        axes.plot(limits, limits, color=INK, linestyle="--", linewidth=1.2)
        axes.scatter(labels, predictions, s=14, color=COLORS[0], alpha=0.35, linewidths=0,
                     rasterized=len(labels) > MANY_POINTS)  # fmt: skip
        axes.set(xlabel="label", ylabel="prediction", xlim=limits, ylim=limits, aspect="equal")
        axes.set_title(f"{title}\n{correlations}", loc="left")
        axes.grid()
        return figure

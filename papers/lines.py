"""Figures with lines: which runs belong to one line, and how values by layer are drawn."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.classifier import SentenceModel
from minbert.report.picture_style import add_legend, label, line_style, new_figure, style
from papers import finished_run
from papers.finished_run import FinishedRun, check_kept, check_models, group_by_recipe
from study.curves import MOST_BANDS, Curve, draw_mean_curve


class Panel(NamedTuple):
    """One pair of axes: for each line the curves {layer: value} of its runs."""

    y: str
    lines: Mapping[str, Sequence[Curve]]


def check_runs(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for a run that appears twice, has several tasks, has another model, or has no finite weights."""
    finished_run.check_runs(runs)
    check_models(runs)


def group_runs(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """The runs of each line: they differ in their seeds only. The line is named by the task where that is enough.

    Raises InputError for runs that cannot be in one figure.
    """
    check_runs(runs)
    return group_by_recipe(runs, short_names=True)


def group_models(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """group_runs for a figure that looks into all the models. Raises InputError for a run that kept none, too."""
    groups = group_runs(runs)
    check_kept(runs)
    return groups


def pretrained_and_trained(run: FinishedRun, device: torch.device) -> tuple[SentenceModel, SentenceModel]:
    """M₀ and M_t, on the device. Raises InputError if the run kept no model."""
    return run.pretrained().to(device), run.trained().to(device)


def layer_figure(title: str, panels: Sequence[Panel]) -> Figure:
    """A line for each name over the layers: the mean of its runs, with a band of one standard deviation."""
    names = list(panels[0].lines)
    with style():
        figure = new_figure(height=3.6 + 0.1 * len(names))
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw_panel(axes, panel)
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
        add_legend(figure, [legend_entry(i, name, panels[0].lines[name]) for i, name in enumerate(names)])
        return figure


def draw_panel(axes: Axes, panel: Panel) -> None:
    with_bands = len(panel.lines) <= MOST_BANDS
    for i, curves in enumerate(panel.lines.values()):
        draw_mean_curve(axes, curves, i, markers=True, band=with_bands)
    several = any(len(curves) > 1 for curves in panel.lines.values())
    axes.set(xlabel="layer (bands: ± 1 standard deviation)" if several and with_bands else "layer", ylabel=panel.y)
    axes.set_ylim(bottom=0)
    axes.grid()
    axes.xaxis.get_major_locator().set_params(integer=True)


def legend_entry(index: int, name: str, curves: Sequence[Curve]) -> Line2D:
    """The name of a line, and over how many curves it is the mean."""
    text = label(name) + (f": mean of {len(curves)}" if len(curves) > 1 else "")
    return Line2D([], [], markersize=5, linewidth=1.6, label=text, **line_style(index))

"""Figures 2 (c), 8 (a) and 14 of Mosbach et al. 2021: the training loss and dev score of failed and successful runs.

On the Stability of Fine-tuning BERT, ICLR 2021, arXiv:2006.04884, sections 4.1, 5.2 and 7.6. The loss of a failed run
stays where it started, near ln 2 for two classes, the paper says. Nothing is computed here but means over runs.

A row of panels has the runs of one recipe that failed, or that did not. Each thin line is one run, the thick line is
their mean, the band one standard deviation. On the embedded sample (the study is in papers/stability/README.md):

    python -m papers.stability.failed_runs studies-out/stability-sample/runs/*

Differences:
  D1  The paper shows means and standard deviations. Here each run has its line too.
  D2  A point of the loss is the mean over the steps since the point before: ten, or fewer at the end of an epoch.
  D3  "Test accuracy" in the caption of Figure 14 is taken for the dev accuracy, which Figure 2 (c) names.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert import metrics
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import GREY, INK, add_legend, new_figure, style
from papers.figure import figure_parser, run_figure
from papers.finished_run import FinishedRun, study_row
from papers.stability.runs import KIND_COLORS, Group, group_runs, marker
from study.curves import Curve, loss_curve, mean_curve, score_curve

LOSS, SCORE = "training loss", "dev score (points)"


def read_curves(run: FinishedRun) -> dict[str, Curve]:
    """The curves of both columns. Raises InputError if the log has no loss."""
    row = study_row(run)
    loss = loss_curve(row)  # D2
    if not loss:
        raise InputError(f"{run.folder} has no training loss in log.jsonl")
    return {LOSS: loss, SCORE: score_curve(row)}  # D3


def draw_group(axes: Axes, curves: Sequence[Curve], color: str) -> None:
    """Each run as a thin line, their mean as a thick one, one standard deviation as a band."""
    for curve in curves:
        look = {"linewidth": 0.6, "marker": marker(curve), "markersize": 3, "alpha": 0.55}
        axes.plot(list(curve), list(curve.values()), color=color, **look)  # D1
    xs, means, deviations = mean_curve(curves)
    if len(curves) > 1:
        axes.plot(xs, means, color=color, linewidth=2, marker=marker(xs))
        axes.fill_between(xs, means - deviations, means + deviations, color=color, alpha=0.15, linewidth=0)


def curves_figure(groups: Sequence[Group], curves: dict[Path, dict[str, Curve]]) -> Figure:
    """Two panels for each group. `curves` are read_curves() by the folder of the run."""
    references = guesses([run for group in groups for run in group.runs])
    with style():
        figure = new_figure(height=0.9 + 2.1 * len(groups))
        rows = figure.subplots(len(groups), 2, squeeze=False, sharey="col")
        for row, group in zip(rows, groups, strict=True):
            for axes, quantity, unit in zip(row, (LOSS, SCORE), ("step", "epoch"), strict=True):
                if references[quantity] is not None:
                    axes.axhline(references[quantity], color=GREY, linewidth=1.2, linestyle="--", zorder=1)
                draw_group(axes, [curves[run.folder][quantity] for run in group.runs], KIND_COLORS[group.kind])
                axes.set(xlabel=unit, ylabel=quantity)
                axes.grid()
                axes.xaxis.get_major_locator().set_params(integer=True)
            row[0].set_title(group.title, loc="left")
        add_legend(figure, legend(references))
        return figure


def guesses(runs: Sequence[FinishedRun]) -> dict[str, float | None]:
    """The loss ln C, with the same probability for all C classes, and the score of the majority class.

    None where there is none: the loss of a regression, and the score if every run diverged.
    """
    labels = runs[0].tasks[0].labels
    scores = (majority(run) for run in runs)
    return {
        LOSS: math.log(len(labels)) if labels else None,
        SCORE: next((score for score in scores if score is not None), None),
    }


def majority(run: FinishedRun) -> float | None:
    """The dev score of the majority class in points. None if the run has no scores."""
    values = run.metrics["majority"]
    return 100 * metrics.score(run.tasks[0], values) if values else None


def legend(references: dict[str, float | None]) -> list[Line2D]:
    """The entries below the panels. `references` are guesses()."""
    handles = [Line2D([], [], color=INK, linewidth=0.6, label="one run")]
    handles.append(Line2D([], [], color=INK, linewidth=2, label="mean, ± 1 std"))
    if references[SCORE] is not None:
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, linestyle="--", label="guessing"))
    return handles


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write failed_runs.tsv, one row for each point of a thin line, and the picture."""
    groups = group_runs(args.runs)
    curves = {run.folder: read_curves(run) for run in args.runs}
    rows = [
        (group.recipe, group.kind, run.name, quantity, x, value)
        for group in groups
        for run in group.runs
        for quantity, curve in curves[run.folder].items()
        for x, value in curve.items()
    ]
    files.write_table("failed_runs", ("recipe", "kind", "run", "quantity", "step_or_epoch", "value"), rows)
    files.write_picture("failed_runs", curves_figure(groups, curves))


def main(argv: list[str]) -> int:
    return run_figure(figure_parser("papers.stability.failed_runs", __doc__), argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

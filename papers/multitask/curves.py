"""The curves after Table 1 of Pandey & Narayan, Stanford: the dev scores of three tasks while each model trains.

Investigating BERT through Fine-Tuned Regularization and Layer-Level Adaptations for Multi-Task Performance,
section 4.4. The figure has no number. The report says that the curves of SMART and of the baseline look alike, that
those of the adapters do not, and that the curve of paraphrase is almost a constant line.

A panel for each task of multitask.py, in it a line for each option: the mean over the runs that differ only in the
seed, with a band of one standard deviation. On the embedded sample (the study is in papers/multitask/README.md):

    python -m papers.multitask.curves studies-out/multitask-sample/runs/*

Differences:
  D1  The report has one graph for each model, with three lines. Here are a panel for each task and a line for each
      model, because the models are to be compared.
  D2  The report has one run of each model. Here are means over seeds. Each panel has an axis of its own.
  D3  The dashed line is ours: the score of the most frequent class. A correlation of a constant is 0.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import GREY, WIDTH, add_legend, new_figure, style
from minbert.report.reported_run import check_distinct
from papers.figure import figure_parser, run_figure
from papers.finished_run import FinishedRun, group_by_recipe, study_row
from papers.lines import legend_entry
from study.collect import of_one_task
from study.curves import MOST_BANDS, Curve, draw_mean_curve, score_curve

Curves = dict[str, dict[str, list[Curve]]]  # by task, then by the name of the line: a curve for each run


def check_runs(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for runs of train.py, and for runs that cannot be in one figure."""
    check_distinct([run.folder for run in runs])
    for run in runs:
        if len(run.tasks) < 2:
            raise InputError(f"{run.folder} has one task only: this figure needs runs of multitask.py")
        if run.tasks != runs[0].tasks:
            raise InputError(f"{run.folder} has other tasks than {runs[0].folder}")
        if run.settings.dev_size != runs[0].settings.dev_size:  # each dev set has its own dashed line
            raise InputError(f"{run.folder} has another --dev-size than {runs[0].folder}")
        if not run.metrics["history"]:
            raise InputError(f"{run.folder}: a loss was not finite, so there are no scores")


def group_runs(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """The runs of each line: they differ in their seeds only. The name is that of the method, where it is enough."""
    check_runs(runs)
    groups = group_by_recipe(runs)
    title = runs[0].settings.title + "-"
    return {name.removeprefix(title): of_line for name, of_line in groups.items()}


def read_curves(groups: Mapping[str, Sequence[FinishedRun]]) -> Curves:
    """{epoch: dev score in points} of each run, by task and line."""
    tasks = next(iter(groups.values()))[0].tasks
    return {
        task.name: {
            name: [score_curve(of_one_task(study_row(run), task.name, None)) for run in runs]
            for name, runs in groups.items()
        }
        for task in tasks
    }


def majorities(run: FinishedRun) -> dict[str, float]:
    """The dev score of the most frequent class of each task, in points."""
    return {task: 100 * score for task, score in run.metrics["history"][-1]["dev"]["majority"].items()}


def curves_figure(curves: Curves, constant: Mapping[str, float]) -> Figure:
    """A panel for each task. `constant` is the score of the most frequent class by task."""
    names = list(next(iter(curves.values())))
    with style():
        figure = new_figure(height=3.4 + 0.1 * len(names), width=max(WIDTH, 2.7 * len(curves)))
        panels = np.ravel(figure.subplots(1, len(curves), squeeze=False))  # D1
        for axes, (task, lines) in zip(panels, curves.items(), strict=True):
            draw_task(axes, lines, constant[task])
            axes.set_title(task, loc="left")
        panels[0].set_ylabel("dev score (points)")
        first = next(iter(curves.values()))
        handles = [legend_entry(i, name, first[name]) for i, name in enumerate(names)]
        dashed = Line2D([], [], color=GREY, linestyle="--", linewidth=1.2, label="most frequent class")
        add_legend(figure, [*handles, dashed])
        return figure


def draw_task(axes: Axes, lines: Mapping[str, Sequence[Curve]], constant: float) -> None:
    """The lines of one task."""
    axes.axhline(constant, color=GREY, linestyle="--", linewidth=1.2, zorder=1)  # D3
    for i, of_line in enumerate(lines.values()):
        draw_mean_curve(axes, of_line, i, markers=True, band=len(lines) <= MOST_BANDS)  # D2
    axes.set_xlabel("epoch")
    axes.grid()
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write curves.tsv, one row for each run, task and epoch, and the picture."""
    groups = group_runs(args.runs)
    curves = read_curves(groups)
    table = [
        (task, name, run.name, epoch, score)
        for task, lines in curves.items()
        for name, of_line in lines.items()
        for run, curve in zip(groups[name], of_line, strict=True)
        for epoch, score in curve.items()
    ]
    files.write_table("curves", ("task", "line", "run", "epoch", "score"), table)
    files.write_picture("curves", curves_figure(curves, majorities(args.runs[0])))


def main(argv: list[str]) -> int:
    return run_figure(figure_parser("papers.multitask.curves", __doc__), argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

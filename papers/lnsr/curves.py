"""Figure 3 of Hua et al. 2021: accuracy and loss while BERT trains, with and without LNSR.

Noise Stability Regularization for Improving BERT Fine-tuning, NAACL 2021, arXiv:2107.04835v1, section 5.2.

The panels are the dev score after each epoch, the training loss, and the dev loss. Lines are means over the runs that
differ only in the seed, bands one standard deviation. On the embedded sample (the study is in papers/lnsr/README.md):

    python -m papers.lnsr.curves studies-out/lnsr-sample/runs/mrpc-*

Differences:
  D1  The paper shows the "top-1 accuracy". Here it is the score of the task, as in its Table 1.
  D2  A run does not record the dev loss. It is computed from the models that the runs kept, so each run gives one
      point, at its last epoch, even if --keep best kept an earlier one. RUNs of several lengths (--set
      "epochs=[1,2,3]") give a curve. Each of them lowers its learning rate to 0, so its points are ends of training and
      not moments of one training. If runs of one line differ in steps but not in epochs, the axis counts steps.
  D3  Dev score and training loss are those of the longest runs of each line.
  D4  The training loss is the loss of the task without the penalty, with dropout on. A point is the mean over ten
      steps, or fewer at the end of an epoch.
"""

import argparse
import re
import sys
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import WIDTH, add_legend, new_figure, style
from minbert.training.evaluation import predict_logits
from minbert.training.runtime import Runtime
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import FinishedRun, study_row
from papers.lines import Panel, check_runs, group_runs, legend_entry
from study.curves import MOST_BANDS, draw_mean_curve, loss_curve, score_curve

SCORE, LOSS = "dev score (points)", "training loss"
DEV_LOSS, DEV_LOSS_BY_STEPS = "dev loss, end of a run", "dev loss, end of a run, by steps"
UNITS = {SCORE: "epoch", LOSS: "step", DEV_LOSS: "epochs of the run", DEV_LOSS_BY_STEPS: "steps of the run"}
LENGTH = re.compile(r"-(?:epochs|max-steps)=\d+")  # in the name of a cell whose grid has several lengths

Lines = dict[str, list[FinishedRun]]


def group_lengths(runs: Sequence[FinishedRun]) -> Lines:
    """The runs of each line, which may have several lengths. Raises InputError for runs of different tasks."""
    check_runs(runs)
    if len({run.tasks[0] for run in runs}) > 1:
        raise InputError("the RUNs are of several tasks: this figure needs runs of one task")
    lines: Lines = {}
    for name, of_cell in group_runs(runs).items():
        lines.setdefault(LENGTH.sub("", name), []).extend(of_cell)
    return lines


def longest(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs with the largest number of steps."""
    steps = max(run.metrics["steps"] for run in runs)
    return [run for run in runs if run.metrics["steps"] == steps]


def dev_loss(run: FinishedRun, batch_size: int, device: torch.device) -> float:
    """The mean loss of the task over the dev set, without dropout, of the model that a run kept."""
    dataset = run.dataset()
    logits = predict_logits(run.trained().to(device), dataset, batch_size, Runtime(device))
    return float(run.tasks[0].loss(torch.from_numpy(logits).double(), dataset.labels))


def unit_of_length(lines: Lines) -> str:
    """epochs, or steps if runs of one line have equally many epochs and not equally many steps."""

    def lengths(runs: Sequence[FinishedRun], unit: str) -> int:
        return len({run.metrics[unit] for run in runs})

    return "epochs" if all(lengths(runs, "epochs") == lengths(runs, "steps") for runs in lines.values()) else "steps"


def dev_loss_curves(
    runs: Sequence[FinishedRun], unit: str, batch_size: int, device: torch.device
) -> list[dict[int, float]]:
    """{length of the run: dev loss} for the runs of the same seeds, if they kept a model. `unit`: epochs or steps."""
    curves: dict[tuple, dict[int, float]] = {}
    for run in progress([run for run in runs if run.kept_model], DEV_LOSS):  # D2
        s = run.settings
        curve = curves.setdefault((s.seed, s.init_seed, s.data_seed), {})
        curve[run.metrics[unit]] = dev_loss(run, batch_size, device)
    return list(curves.values())


def make_panels(lines: Lines, batch_size: int, device: torch.device) -> list[Panel]:
    """The panels with at least one point. Raises InputError if a log has no loss."""
    rows = {name: [study_row(run) for run in longest(runs)] for name, runs in lines.items()}  # D3
    losses = {name: [loss_curve(row) for row in of_line] for name, of_line in rows.items()}  # D4
    for name, curves in losses.items():
        if not all(curves):
            raise InputError(f"{name}: log.jsonl of a run is missing or has no loss; a line is written every ten steps")
    unit = unit_of_length(lines)
    dev_losses = {name: dev_loss_curves(runs, unit, batch_size, device) for name, runs in lines.items()}
    panels = [
        Panel(SCORE, {name: [score_curve(row) for row in of_line] for name, of_line in rows.items()}),  # D1
        Panel(LOSS, losses),
        Panel(DEV_LOSS if unit == "epochs" else DEV_LOSS_BY_STEPS, dev_losses),
    ]
    return [panel for panel in panels if any(curve for curves in panel.lines.values() for curve in curves)]


def curves_figure(panels: Sequence[Panel], title: str) -> Figure:
    """The panels side by side, in one legend the lines of all of them."""
    names = list(panels[0].lines)
    with style():
        figure = new_figure(height=2.9 + 0.1 * len(names), width=max(WIDTH, 2.8 * len(panels)))
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for i, curves in enumerate(panel.lines.values()):
                draw_mean_curve(axes, curves, i, markers=panel.y != LOSS, band=len(names) <= MOST_BANDS)
            axes.set(xlabel=UNITS[panel.y], ylabel=panel.y)
            axes.grid()
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
        add_legend(figure, [legend_entry(i, name, panels[0].lines[name]) for i, name in enumerate(names)])
        return figure


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write curves.tsv, one row for each point of each run, and the picture."""
    panels = make_panels(group_lengths(args.runs), args.batch_size, choose_device(args))
    table = [
        (name, number, panel.y, x, value)
        for panel in panels
        for name, curves in panel.lines.items()
        for number, curve in enumerate(curves, start=1)
        for x, value in curve.items()
    ]
    files.write_table("curves", ("line", "run", "quantity", "epoch_or_step", "value"), table)
    files.write_picture("curves", curves_figure(panels, args.runs[0].settings.title))
    if not any(run.kept_model for run in args.runs):
        print("no RUN kept a model (a study needs save=model), so there is no dev loss")


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.lnsr.curves", __doc__)
    add_device_flags(parser)
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

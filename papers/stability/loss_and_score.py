"""Figure 8 (b) of Mosbach et al. 2021: the dev score of many runs against their training loss.

On the Stability of Fine-tuning BERT, ICLR 2021, arXiv:2006.04884, section 5.2. If overfitting were the problem, the
runs with the smallest training loss would have lower dev scores. The figure has all runs of the ablation (Figure 9).

Each point is one run, a cross marks a failed one. On the embedded sample (the study is in papers/stability/README.md):

    python -m papers.stability.loss_and_score studies-out/sample-ablation/runs/*

Differences:
  D1  "Training loss at the end of the training" is the mean loss over the steps of the last epoch, with dropout on.
  D2  The last line that is printed is ours: Spearman's correlation of loss and score over the runs that did not fail.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from minbert import metrics
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import make_logarithmic
from papers.figure import figure_parser, run_figure
from papers.finished_run import check_runs, check_same_task, group_by_recipe, study_row
from study.curves import loss_figure
from study.results import Cell, Result, Row


def rank_correlation(rows: Sequence[Row]) -> float | None:
    """Spearman's correlation of training loss and dev score, without failed runs. None for fewer than three runs."""
    good = [row for row in rows if not row.failed]
    if len(good) < 3:
        return None
    losses, scores = np.array([row.train_loss for row in good]), np.array([row.score for row in good])
    return metrics.spearman(losses, scores)  # D2


def make_result(recipe: str, rows: list[Row]) -> Result:
    """The runs of one recipe, as a picture of a study needs them. The title has the task, so the name leaves it out."""
    task = rows[0].task
    return Result(Cell(task, recipe.removeprefix(f"{task}-"), {}, rows), {})


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write loss_and_score.tsv, one row for each run, and the picture."""
    check_runs(args.runs)
    check_same_task(args.runs)
    rows_of = {recipe: [study_row(run) for run in runs] for recipe, runs in group_by_recipe(args.runs).items()}
    figure = loss_figure([make_result(recipe, rows) for recipe, rows in rows_of.items()])
    if figure is None:
        raise InputError("no RUN has both a training loss and a score")
    if any(row.train_loss for rows in rows_of.values() for row in rows):
        make_logarithmic(figure.axes[0].xaxis)  # the smallest losses of the paper are 1e-5
    columns = ("recipe", "run", "train_loss", "score", "failed")
    table = [
        (recipe, row.folder.name, row.train_loss, row.score, int(row.failed))  # D1
        for recipe, rows in rows_of.items()
        for row in rows
    ]
    files.write_table("loss_and_score", columns, table)
    files.write_picture("loss_and_score", figure)
    rows = [row for of_recipe in rows_of.values() for row in of_recipe]
    correlation = rank_correlation(rows)
    if correlation is not None:
        print(f"rank correlation of loss and score, {sum(not row.failed for row in rows)} runs: {correlation:.2f}")


def main(argv: list[str]) -> int:
    return run_figure(figure_parser("papers.stability.loss_and_score", __doc__), argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

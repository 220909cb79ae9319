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
from papers.figure import FigureFiles, figure_parser, run_figure
from papers.stability.runs import check_runs, make_logarithmic, study_row
from study.curves import loss_figure
from study.results import Cell, Result, Row, is_number


def rank_correlation(rows: Sequence[Row]) -> float | None:
    """Spearman's correlation of training loss and dev score, without failed runs. None for fewer than three runs."""
    good = [row for row in rows if not row.failed and is_number(row.train_loss)]
    if len(good) < 3:
        return None
    losses, scores = np.array([row.train_loss for row in good]), np.array([row.score for row in good])
    return metrics.spearman(losses, scores)  # D2


def group_rows(rows: Sequence[Row]) -> list[Result]:
    """A result for each recipe, in the order given."""
    recipes = {row.method: [other for other in rows if other.method == row.method] for row in rows}
    return [Result(Cell(of_recipe[0].task, name, {}, of_recipe), {}) for name, of_recipe in recipes.items()]


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write loss_and_score.tsv, one row for each run, and the picture."""
    check_runs(args.runs)
    rows = [study_row(run) for run in args.runs]
    figure = loss_figure(group_rows(rows))
    if figure is None:
        raise InputError("no RUN has both a training loss and a score")
    make_logarithmic(figure.axes[0].xaxis)  # the smallest losses of the paper are 1e-5
    columns = ("recipe", "run", "train_loss", "score", "failed")
    table = [(row.method, row.folder.name, row.train_loss, row.score, int(row.failed)) for row in rows]  # D1
    files.write_table("loss_and_score", columns, table)
    files.write_picture("loss_and_score", figure)
    correlation = rank_correlation(rows)
    if correlation is not None:
        print(f"rank correlation of loss and score, {sum(not row.failed for row in rows)} runs: {correlation:.2f}")


def main(argv: list[str]) -> int:
    return run_figure(figure_parser("papers.stability.loss_and_score", __doc__), argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

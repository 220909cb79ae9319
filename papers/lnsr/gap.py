"""Table 3 of Hua et al. 2021: how much better a model scores on its training set than on the dev set.

Noise Stability Regularization for Improving BERT Fine-tuning, NAACL 2021, arXiv:2107.04835v1, section 5.2.

For the weights that a run kept, numbered by us:
  (m1)  gap = training score - dev score

Each RUN is one row of the table; the means are over the runs that differ only in the seed, with standard deviations
(n - 1). On the embedded sample (the study is in papers/lnsr/README.md):

    python -m papers.lnsr.gap studies-out/lnsr-sample/runs/mrpc-*epochs=8*

Differences:
  D1  The paper says "Acc". Here it is the score of the task, as in its Table 1: for CoLA the Matthews correlation.
  D2  The training set is scored without dropout: by the run itself (--evaluate dev train), otherwise here, from the
      model that the run kept.
  D3  The paper prints no spread. Its gaps are differences of rounded means.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import GREY, INK, add_legend, label, line_style, new_figure, style
from minbert.training.evaluation import Evaluator
from minbert.training.runtime import Runtime
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import FinishedRun
from papers.lines import group_runs
from study.statistics import describe_gap, standard_deviation

Scores = tuple[float, float]  # training score and dev score of one run, 0 to 1


def read_scores(run: FinishedRun, batch_size: int, device: torch.device) -> Scores:
    """The training score and the dev score of the weights that a run kept.

    Raises InputError if the run neither scored its training set nor kept a model.
    """
    kept = next(entry for entry in run.metrics["history"] if entry["epoch"] == run.metrics["kept_epoch"])
    train = kept["train"]["score"] if "train" in kept else compute_training_score(run, batch_size, device)  # D2
    return train, kept["dev"]["score"]  # D1


def compute_training_score(run: FinishedRun, batch_size: int, device: torch.device) -> float:
    """The score of the model that a run kept, on the examples that it was trained on."""
    (task,) = run.tasks
    data = {task.name: {"train": run.dataset("train")}}
    return Evaluator(run.trained().to(device), data, batch_size, Runtime(device)).scores("train")["score"]


def mean_rows(scores: Mapping[str, Sequence[Scores]]) -> list[tuple]:
    """A row for each line of runs: name, runs, mean and standard deviation of training score, dev score and gap."""
    rows = []
    for name, of_line in scores.items():
        train, dev = zip(*of_line)
        values = describe_gap(train, dev)  # (m1)
        spreads = [standard_deviation(np.array(split)) for split in (train, dev)]  # D3
        rows.append((name, len(of_line), values["train_mean"], spreads[0], values["dev_mean"], spreads[1],
                     values["gap_mean"], values["gap_std"]))  # fmt: skip
    return rows


def gap_figure(scores: Mapping[str, Sequence[Scores]]) -> Figure:
    """A row for each line of runs: the means of both scores, the gap between them, and a small dot for each run."""
    with style():
        figure = new_figure(height=1.5 + 0.55 * len(scores))
        axes = figure.add_subplot()
        for i, of_line in enumerate(scores.values()):
            train, dev = 100 * np.array(of_line).T
            for k, values in enumerate((dev, train)):
                look = line_style(k)
                axes.scatter(values, np.full(len(values), i + 0.2), s=9, color=look["color"], alpha=0.5, linewidth=0)
                axes.plot([values.mean()], [i], markersize=8, color=look["color"], marker=look["marker"], zorder=3)
            axes.plot([dev.mean(), train.mean()], [i, i], color=GREY, linewidth=2, zorder=1)
            gap = f"{train.mean() - dev.mean():.2f}".replace("-", "−")
            axes.text((dev.mean() + train.mean()) / 2, i - 0.14, gap, ha="center", va="bottom", color=INK)
        axes.set_yticks(range(len(scores)), [label(name) for name in scores])
        axes.set_ylim(len(scores) - 0.5, -0.6)
        axes.set_xlabel("score (points)")
        axes.set_title("Dev score, training score, and the gap between them", loc="left")
        axes.grid(axis="x")
        names = ("dev score", "training score")
        looks = [line_style(k) | {"linestyle": "none"} for k in range(2)]
        handles = [Line2D([], [], label=f"{name}, mean", markersize=7, **look) for name, look in zip(names, looks)]
        dot = Line2D([], [], label="one run", linestyle="none", marker="o", markersize=3, color=GREY)
        add_legend(figure, [*handles, dot])
        return figure


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write gap.tsv, one row for each run, gap-means.tsv, one row for each line of runs, and the picture."""
    device, scores, table = choose_device(args), {}, []
    for name, runs in group_runs(args.runs).items():
        scores[name] = [read_scores(run, args.batch_size, device) for run in progress(runs, name)]
        pairs = zip(runs, scores[name], strict=True)
        table += [(name, run.name, train, dev, train - dev) for run, (train, dev) in pairs]
    files.write_table("gap", ("line", "run", "train", "dev", "gap"), table)
    columns = ("line", "runs", "train_mean", "train_std", "dev_mean", "dev_std", "gap_mean", "gap_std")
    files.write_table("gap-means", columns, mean_rows(scores))
    files.write_picture("gap", gap_figure(scores))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.lnsr.gap", __doc__)
    add_device_flags(parser)
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

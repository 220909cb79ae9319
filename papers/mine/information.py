"""Figure 2 (left) of Li et al. 2023: the mutual information between neighbouring layers, by binning and by MINE.

Improving BERT Fine-Tuning via Stabilizing Cross-Layer Mutual Information, ICASSP 2023, section 4.3.

T_i [n,D] are the [CLS] states of layer i, i = 1 to M, for n inputs: training examples, or with --pairs separate each
sentence of their pairs. All values are in nats:
  (5)  binning:  I(X,Z) = H(X) + H(Z) - H(X,Z), H from the counts in bins of equal width; X and Z are one channel of T_i
       and the same channel of T_{i+1}
  (7)  MINE:  I(X,Z) = sup_φ  E_joint[G_φ] - log E_marginals[e^{G_φ}];  X and Z are T_i and T_{i+1}

Binning is biased upwards. With n examples in 50,000 bins almost every bin holds one example at most, so that
H(X) = H(Z) = H(X,Z) = log n, and the estimate is log n for any two channels, related or not. Therefore the dashed lines
show the estimate after one of the channels is shuffled, where the information is 0, and there is a second column with
30 bins. Only what lies above the dashed line is evidence. Batches of B pairs show at most log B by MINE.

`information.png` has a line for each model: the pretrained one and the RUNs, means over the runs that differ only in
the seed. RUNs of one seed with a constant learning rate and growing --max-steps are moments of one training.
`information-channels.png` has the five channels of the pretrained model one by one. On the embedded sample (the study
is in papers/mine/README.md):

    python -m papers.mine.information studies-out/mine-information-sample/runs/rte-plain-* --examples 1000

Differences:
  D1  The paper has 50,000 bins only. Here are 30 as well, and the shuffled channels.
  D2  The paper does not say on which examples. Here are the training examples of the RUNs, in full batches of 32, at
      most --examples of them. The table has n.
  D3  Binning reads states without dropout. MINE has dropout on, as in the first stage of our method: without it the
      networks learn the examples by heart, and the estimate stands at log B (regularizers/mine.py, D3).
  D4  MINE compares projections of the states to 16 dimensions, with all pairs of a batch as marginals (mine.py, D4 and
      D5). The estimate is the mean over held-out batches: a tenth that the networks do not learn from.
      The fit stops by this tenth, and each pair keeps the parameters that are best on it, so the estimate is a little
      too high: where mine.py measured it (D3), by about .1 nats.
  D5  The five channels are drawn once, and are the same for all layers and all models.
  D6  The networks are fitted to each model anew. The paper does not say whether its networks are those of the training.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.classifier import SentenceModel
from minbert.command_line import positive
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import GREY, add_legend, label, line_style, new_figure, style
from minbert.task import Batch
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import FinishedRun, check_same_data
from papers.lines import check_runs, group_runs
from papers.mine.estimates import cls_states, information_by_binning, information_by_mine, shuffle_layers
from regularizers import first_stage
from regularizers.mutual_information import SMALLEST_BATCH
from study.curves import MOST_BANDS, draw_mean_curve

BINS = (50_000, 30)  # D1
CHANNELS = 5
MINE = "MINE"
PRETRAINED = "pretrained"


class Estimates(NamedTuple):
    """The information between neighbouring layers of one model: C channels, P pairs of layers."""

    binned: dict[int, np.ndarray]  # by number of bins, [C,P]
    shuffled: dict[int, np.ndarray]  # the same for shuffled channels
    mine: np.ndarray  # [P]


def choose_batches(run: FinishedRun, batch_size: int, examples: int, device: torch.device) -> list[Batch]:
    """Full batches of the run's training examples, at most `examples` of them, in an order that all RUNs share.

    Raises InputError if there are too few for a fit.
    """
    dataset = run.dataset("train")
    rows = [rows for rows in dataset.shuffled(batch_size, seed=0, epoch=0) if len(rows) == batch_size]
    rows = rows[: examples // batch_size]  # D2
    fewest = first_stage.FEWEST_EXAMPLES
    if len(rows) < 2 or len(rows) * batch_size < fewest or batch_size < SMALLEST_BATCH:
        raise InputError(
            f"{run.folder}: MINE needs {fewest} training examples or more, in batches of {SMALLEST_BATCH} or more, not "
            f"{len(rows)} full batches of {batch_size}"
        )
    return [dataset.collate(of_batch).to(device) for of_batch in rows]


def choose_channels(width: int) -> list[int]:
    """Five channels of a state of this width, always the same."""
    chosen = np.random.default_rng(0).choice(width, min(CHANNELS, width), replace=False)  # D5
    return sorted(map(int, chosen))


def estimate(model: SentenceModel, batches: Sequence[Batch], channels: Sequence[int]) -> Estimates:
    """All estimates for one model, which is on the device of the batches."""
    states = cls_states(model, batches)  # D3
    shuffled = shuffle_layers(states)
    return Estimates(
        {bins: information_by_binning(states, channels, bins) for bins in BINS},  # (5)
        {bins: information_by_binning(shuffled, channels, bins) for bins in BINS},
        information_by_mine(model, batches).cpu().double().numpy(),  # (7) D4 D6
    )


def curve(values: np.ndarray) -> dict[int, float]:
    """[P] -> {number of the lower layer: information}"""
    return {i: float(value) for i, value in enumerate(values, start=1)}


def information_figure(lines: Mapping[str, Sequence[Estimates]], title: str) -> Figure:
    """A panel for each estimator, in it a line for each name: the mean over its runs and over the channels."""
    with style():
        figure = new_figure(height=3.6 + 0.1 * len(lines), width=8.4)
        panels = figure.subplots(1, len(BINS) + 1)
        band = len(lines) <= MOST_BANDS
        for axes, bins in zip(panels, BINS):
            for i, runs in enumerate(lines.values()):
                draw_mean_curve(axes, [curve(run.binned[bins].mean(0)) for run in runs], i, markers=True, band=band)
            draw_shuffled(axes, [run for runs in lines.values() for run in runs], bins)
        for i, runs in enumerate(lines.values()):
            draw_mean_curve(panels[-1], [curve(run.mine) for run in runs], i, markers=True, band=band)
        finish(figure, panels, title, list(lines))
        return figure


def channels_figure(model: Estimates, channels: Sequence[int], title: str) -> Figure:
    """A panel for each estimator, in those of binning a line for each channel of one model."""
    with style():
        figure = new_figure(height=3.8, width=8.4)
        panels = figure.subplots(1, len(BINS) + 1)
        for axes, bins in zip(panels, BINS):
            for i, of_channel in enumerate(model.binned[bins]):
                draw_mean_curve(axes, [curve(of_channel)], i, markers=True, band=False)
            draw_shuffled(axes, [model], bins)
        draw_mean_curve(panels[-1], [curve(model.mine)], len(channels), markers=True, band=False)
        finish(figure, panels, title, [*(f"channel {channel}" for channel in channels), "MINE"])
        return figure


def draw_shuffled(axes: Axes, models: Sequence[Estimates], bins: int) -> None:
    """The dashed line: the mean over models and channels of the estimate for shuffled channels."""
    mean = curve(np.mean([model.shuffled[bins].mean(0) for model in models], axis=0))
    axes.plot(list(mean), list(mean.values()), color=GREY, linestyle="--", linewidth=1.4, zorder=3)


def finish(figure: Figure, panels: Sequence[Axes], title: str, names: Sequence[str]) -> None:
    """Titles, labels and the legend."""
    for axes, name in zip(panels, [*(f"binning, {bins:,} bins" for bins in BINS), MINE], strict=True):
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("layers i and i + 1: i")
        low, high = axes.get_ylim()
        axes.set_ylim(min(0, low), 1.05 * high)
        axes.grid()
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("mutual information (nats)")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    handles = [Line2D([], [], label=label(name), **line_style(i)) for i, name in enumerate(names)]
    handles.append(Line2D([], [], label="shuffled: no information", color=GREY, linestyle="--", linewidth=1.4))
    add_legend(figure, handles)


def table_rows(line: str, run: str, model: Estimates, channels: Sequence[int]) -> list[tuple]:
    """A row for each pair of layers and estimator, and for binning for each channel."""
    rows = []
    for bins in BINS:
        for channel, values, shuffled in zip(channels, model.binned[bins], model.shuffled[bins], strict=True):
            rows += [
                (line, run, f"{i}-{i + 1}", f"binning {bins}", channel, float(value), float(control))
                for i, (value, control) in enumerate(zip(values, shuffled, strict=True), start=1)
            ]
    mine = [(line, run, f"{i}-{i + 1}", MINE, None, value, None) for i, value in curve(model.mine).items()]
    return rows + mine


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write information.tsv, one row for each estimate, and the pictures."""
    device = choose_device(args)
    check_runs(args.runs)  # first: the steps of a run whose loss was not finite are unknown
    groups = group_runs(sorted(args.runs, key=lambda run: run.metrics["steps"]))  # moments in their order
    check_same_data(args.runs, "train")
    first = args.runs[0]
    batches = choose_batches(first, args.batch_size, args.examples, device)
    channels = choose_channels(first.pretrained().bert.config.hidden_size)
    models = [(PRETRAINED, "", first.pretrained)]
    models += [(line, run.name, run.trained) for line, runs in groups.items() for run in runs]
    lines: dict[str, list[Estimates]] = {}
    table = []
    for line, name, load in progress(models, "models"):
        found = estimate(load().to(device), batches, channels)
        lines.setdefault(line, []).append(found)
        table += table_rows(line, name, found, channels)
    rows = len(batches[0].input_ids)  # two for each example whose sentences are encoded separately
    n = len(batches) * rows
    columns = ("line", "run", "layers", "estimator", "channel", "information", "shuffled", "n")
    files.write_table("information", columns, [(*row, n) for row in table])
    limits = f"binning shows at most log n = {math.log(n):.2f}, MINE log {rows} = {math.log(rows):.2f}"
    title = f"{first.tasks[0].name}, n = {n}: {limits}"
    files.write_picture("information", information_figure(lines, title))
    files.write_picture("information-channels", channels_figure(lines[PRETRAINED][0], channels, f"Pretrained, {title}"))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.mine.information", __doc__)
    add_device_flags(parser)
    parser.add_argument("--examples", type=positive, default=2000, help="use this many at most (default 2000)")
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figure 1 of Hua et al. 2021: how noise on the output of one layer grows or fades in the layers above it.

Noise Stability Regularization for Improving BERT Fine-tuning, NAACL 2021, arXiv:2107.04835v1, section 1.

For a text with the outputs h_0 (embeddings), h_1, ..., h_L, numbered by us:
  (m1)  h'_j = h_j + ε with ‖ε‖ = .05 ‖h_j‖,  ε a scaled draw of N(0, 1)
  (m2)  h'_r = f_r(h'_{r-1}) for r > j,  f_r the layer r
  (m3)  the curve of j: ‖h'_r - h_r‖ for r = j, ..., L, the absolute L2 norm
  (m4)  ‖h'_r - h_r‖ / ‖h_r‖, the "error ratio"

The pretrained model comes first, then the RUNs, each line of runs in its own column. Of three RUNs or more there is a
second picture, with a point for each RUN: dev score and error ratio of the last layer, because the paper says that
better models have lower ratios in the top layers. On the embedded sample (the study is in papers/lnsr/README.md):

    python -m papers.lnsr.attenuation studies-out/lnsr-sample/runs/mrpc-*epochs=8*

Differences:
  D1  The caption calls the axis an absolute norm and then speaks of error ratios. Here are both.
  D2  The paper does not say what ‖h‖ covers. Here it is the Frobenius norm over the real tokens of one text. Padding
      gets no noise and does not count.
  D3  The numbers are means over the dev set and 5 draws of the noise (--draws). The paper gives neither. All models get
      the same draws. Dropout is off.
  D4  The paper does not say at which layers it injects. Here at h_0, the place of its regulariser, to h_{L-1}; in a
      model with more than 8 layers at 8 of them (--layers).
  D5  A column is the mean over the runs that differ only in the seed. The paper has one model for each panel.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from minbert import metrics
from minbert.classifier import SentenceModel
from minbert.command_line import positive
from minbert.data.dataset import Dataset
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import WIDTH, add_legend, label, line_style, new_figure, style
from minbert.task import Batch
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import FinishedRun, batches, check_same_data
from papers.lines import group_runs
from regularizers.perturbation import draw_noise

SHARE = 0.05  # of the noise's norm in the norm of the output
MOST_CURVES = 8
PRETRAINED = "pretrained"


class Curves(NamedTuple):
    """The curves of one model: a row for each layer j with noise, NaN below j. Means over texts and draws."""

    norms: np.ndarray  # [J,L+1]
    ratios: np.ndarray  # [J,L+1]


def text_norms(h: Tensor, real: Tensor) -> Tensor:
    """The Frobenius norm over the real tokens of each text: h [B,T,D], real [B,T] -> [B]."""
    return (h * real.unsqueeze(-1)).flatten(1).norm(dim=1)  # D2


def add_noise(h: Tensor, real: Tensor, share: float = SHARE) -> Tensor:
    """h [B,T,D] with noise whose norm is `share` of the norm of each text. Padding, where real [B,T] is 0, has none."""
    noise = draw_noise(h, real)
    sizes = share * text_norms(h, real) / text_norms(noise, real)
    return h + sizes[:, None, None] * noise  # (m1)


@torch.no_grad()
def errors(model: SentenceModel, batch: Batch, hidden: Sequence[Tensor], start: int) -> Tensor:
    """‖h'_r - h_r‖ and its ratio to ‖h_r‖ for noise at layer `start`, r = start to L: [2,B,L+1-start].

    `hidden` are the outputs h_0 to h_L of the clean pass, [B,T,D] each.
    """
    real = batch.attention_mask
    noisy = add_noise(hidden[start], real)
    noisy_hidden = (noisy, *model.encode(noisy, batch, start))  # (m2)
    pairs = list(zip(noisy_hidden, hidden[start:], strict=True))
    norms = torch.stack([text_norms(after - before, real) for after, before in pairs], 1)  # (m3)
    sizes = torch.stack([text_norms(before, real) for _, before in pairs], 1)
    return torch.stack([norms, norms / sizes])  # (m4) D1


@torch.no_grad()
def measure(
    model: SentenceModel, dataset: Dataset, starts: Sequence[int], draws: int, batch_size: int, text: str = ""
) -> Curves:
    """The curves of a model, on the device that it is on. `text` stands in front of the progress bar."""
    device = next(model.parameters()).device
    torch.manual_seed(0)  # D3
    model.eval()  # D3
    layers, count = model.bert.config.num_hidden_layers, 0
    sums = np.full((2, len(starts), layers + 1), np.nan)
    for row, start in enumerate(starts):
        sums[:, row, start:] = 0
    for batch in progress(batches(dataset, batch_size, device), text, -(-len(dataset) // batch_size)):
        hidden = model(batch).hidden
        count += len(batch.attention_mask)  # two texts for each pair of sentences that are encoded separately
        for row, start in enumerate(starts):
            for _ in range(draws):
                sums[:, row, start:] += errors(model, batch, hidden, start).double().sum(1).cpu().numpy()
    return Curves(*(sums / (count * draws)))


def default_starts(layers: int) -> list[int]:
    """The layers that get noise in a model of `layers` layers: 0 to L-1, or MOST_CURVES of them."""
    if layers <= MOST_CURVES:
        return list(range(layers))
    return [i * layers // MOST_CURVES for i in range(MOST_CURVES)]  # D4


def check_starts(starts: Sequence[int], layers: int) -> list[int]:
    """The layers in order, each once. Raises InputError for one that the model lacks."""
    if max(starts) > layers or min(starts) < 0:
        raise InputError(f"--layers are from 0 (embeddings) to {layers} in this model")
    return sorted(set(starts))


def mean_of(curves: Sequence[Curves]) -> Curves:
    """The mean over runs."""
    return Curves(*(np.mean(arrays, axis=0) for arrays in zip(*curves, strict=True)))  # D5


def last_ratio(curves: Curves) -> float:
    """The error ratio of the last layer, the mean over the layers that got noise."""
    return float(curves.ratios[:, -1].mean())


def attenuation_figure(columns: Mapping[str, Curves], starts: Sequence[int]) -> Figure:
    """Two rows of panels, norms and ratios, with a column for each title. A curve starts at its layer j."""
    with style():
        figure = new_figure(height=4.6, width=max(WIDTH, 0.7 + 2.1 * len(columns)))
        rows = figure.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row")
        for column, (title, curves) in enumerate(columns.items()):
            draw_curves(rows[0, column], curves.norms, starts)
            draw_curves(rows[1, column], 100 * curves.ratios, starts)
            rows[0, column].set_title(label(title), loc="left", fontsize=9.5)
            rows[1, column].set_xlabel("layer r")
        for row in rows:  # when all panels are drawn, because they share the axis
            row[0].set_ylim(bottom=0)
        rows[0, 0].set_ylabel("norm of the error")
        rows[1, 0].set_ylabel("error / output (%)")
        figure.suptitle("Noise of 5 % at the output of layer j", x=0.02, ha="left", fontsize=11)
        names = ["j = 0 (embeddings)" if start == 0 else f"j = {start}" for start in starts]
        add_legend(figure, [Line2D([], [], label=name, **line_style(i)) for i, name in enumerate(names)])
        return figure


def draw_curves(axes: Axes, values: np.ndarray, starts: Sequence[int]) -> None:
    """The curves [J,L+1] of one panel."""
    for i, start in enumerate(starts):
        layers = np.arange(start, values.shape[1])
        axes.plot(layers, values[i, start:], markersize=4, linewidth=1.5, **line_style(i))
    axes.grid()
    axes.xaxis.get_major_locator().set_params(integer=True)


def score_figure(points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """The dev score (points) against the error ratio (%) of the last layer: {line: [(ratio, score) of each run]}."""
    everything = [point for of_line in points.values() for point in of_line]
    correlation = metrics.spearman(*np.array(everything).T)
    with style():
        figure = new_figure(height=3.6)
        axes = figure.add_subplot()
        for i, of_line in enumerate(points.values()):
            ratios, scores = np.array(of_line).T
            look = line_style(i)
            axes.scatter(100 * ratios, 100 * scores, s=34, color=look["color"], marker=look["marker"])
        axes.set(xlabel="error / output in the last layer (%), mean over j", ylabel="dev score (points)")
        axes.set_title(f"{len(everything)} runs: rank correlation {correlation:.2f}".replace("-", "−"), loc="left")
        axes.grid()
        looks = [line_style(i) | {"linestyle": "none"} for i in range(len(points))]
        add_legend(figure, [Line2D([], [], label=label(name), **look) for name, look in zip(points, looks)])
        return figure


def table_rows(line: str, run: str, score: float | None, curves: Curves, starts: Sequence[int]) -> list[tuple]:
    """A row for each point of the curves of one model."""
    return [
        (line, run, score, start, layer, float(curves.norms[i, layer]), float(curves.ratios[i, layer]))
        for i, start in enumerate(starts)
        for layer in range(start, curves.norms.shape[1])
    ]


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write attenuation.tsv, one row for each model, layer j and layer r, and the pictures."""
    device, groups = choose_device(args), group_runs(args.runs)
    first = args.runs[0]
    check_same_data(args.runs, "dev")
    layers = first.pretrained().bert.config.num_hidden_layers
    starts = check_starts(args.layers, layers) if args.layers else default_starts(layers)

    def curves_of(model: SentenceModel, run: FinishedRun, text: str) -> Curves:
        return measure(model.to(device), run.dataset(), starts, args.draws, args.batch_size, text)

    columns = {PRETRAINED: curves_of(first.pretrained(), first, PRETRAINED)}
    table = table_rows(PRETRAINED, "", None, columns[PRETRAINED], starts)
    points: dict[str, list[tuple[float, float]]] = {}
    for line, runs in groups.items():
        curves = [curves_of(run.trained(), run, run.name) for run in runs]
        for run, of_run in zip(runs, curves, strict=True):
            table += table_rows(line, run.name, run.score, of_run, starts)
        points[line] = [(last_ratio(of_run), run.score) for run, of_run in zip(runs, curves, strict=True)]
        columns[f"{line}: dev {100 * np.mean([run.score for run in runs]):.1f}"] = mean_of(curves)
    files.write_table("attenuation", ("line", "run", "score", "noise_at", "layer", "norm", "ratio"), table)
    files.write_picture("attenuation", attenuation_figure(columns, starts))
    if len(args.runs) > 2:
        files.write_picture("attenuation-score", score_figure(points))
    else:
        print("fewer than three RUNs, so there is no picture of dev score and error ratio")


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.lnsr.attenuation", __doc__)
    add_device_flags(parser)
    parser.add_argument("--draws", type=positive, default=5, help="draws of the noise (default 5)")
    parser.add_argument("--layers", type=int, nargs="+", metavar="J", help="the layers whose output gets noise")
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figure 6 of Mosbach et al. 2021: how much shorter Adam's first steps are with bias correction.

On the Stability of Fine-tuning BERT, ICLR 2021, arXiv:2006.04884, section 5.1. With bias correction, step t has the
learning rate α_t in place of α:
  (1)  α_t = α √(1-β₂ᵗ) / (1-β₁ᵗ)
  (2)  θ_t = θ_{t-1} - α_t m_t / (√v_t + ε)

The line is the factor α_t/α by (1). The points are measured: two AdamW of minbert, one with and one without the
correction, get the same random gradients, and the point is the ratio of their steps. No run is needed:

    python -m papers.stability.bias_correction

Differences:
  D1  The text does not say how many steps the figure shows. Here --steps, on a logarithmic axis, because the factor is
      smallest at step 12 of thousands.
"""

import argparse
import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.command_line import positive
from minbert.optimizer import AdamW, bias_correction
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import COLORS, GREY, INK, add_legend, make_logarithmic, new_figure, style
from papers.figure import figure_parser, progress, run_figure

BETAS = (0.9, 0.999)  # the figure's


def correction_factors(steps: int, beta1: float, beta2: float) -> np.ndarray:
    """α_t/α for t = 1 to `steps`: [S]"""
    return np.array([bias_correction(t, beta1, beta2) for t in range(1, steps + 1)])  # (1)


def measured_factors(steps: int, beta1: float, beta2: float) -> np.ndarray:
    """The length of a step of AdamW with the correction, divided by its length without: [S]"""
    # Both parameters stay close to 0, where float64 resolves a step best.
    with_correction, without = (torch.zeros(1, dtype=torch.float64) for _ in range(2))
    optimizers = [
        AdamW([parameter], lr=1.0, betas=(beta1, beta2), correct_bias=parameter is with_correction)
        for parameter in (with_correction, without)
    ]
    generator, ratios = torch.Generator().manual_seed(0), []
    for _ in progress(range(steps), "AdamW"):
        gradient = 1 + torch.rand(1, generator=generator, dtype=torch.float64)  # away from 0: each step has a length
        for parameter, optimizer in zip((with_correction, without), optimizers):
            parameter.zero_()
            parameter.grad = gradient.clone()
            optimizer.step()  # (2)
        ratios.append((with_correction / without).item())
    return np.array(ratios)


def factor_figure(factors: np.ndarray, measured: np.ndarray) -> Figure:
    """The factor [S] over the steps as a line, measured points [S] on it, and its smallest value."""
    steps, lowest = np.arange(1, len(factors) + 1), int(factors.argmin())
    shown = np.unique(np.geomspace(1, len(factors), 25).round().astype(int)) - 1
    with style():
        figure = new_figure(height=3.6)
        axes = figure.add_subplot()
        axes.axhline(1, color=GREY, linewidth=1, linestyle="--")
        axes.plot(steps, factors, color=COLORS[0], linewidth=1.8)
        axes.plot(steps[shown], measured[shown], color=COLORS[5], marker="o", markersize=4, linestyle="none")
        axes.annotate(
            f"{factors[lowest]:.3f} at step {lowest + 1}",
            (steps[lowest], factors[lowest]), (0, -14), textcoords="offset points", ha="center", color=INK,
        )  # fmt: skip
        make_logarithmic(axes.xaxis)
        axes.set(xlabel="step t", ylabel="factor on the learning rate, α_t / α")
        axes.set_ylim(0, max(1.08, 1.05 * factors.max()))  # a small β₂ makes the first step longer
        axes.set_title("What Adam's bias correction does to the first steps", loc="left")
        axes.grid()
        line = Line2D([], [], color=COLORS[0], linewidth=1.8, label="√(1−β₂ᵗ) / (1−β₁ᵗ)")
        points = Line2D([], [], color=COLORS[5], marker="o", markersize=4, linestyle="none", label="measured in AdamW")
        add_legend(figure, [line, points])
        return figure


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write bias_correction.tsv and the picture."""
    factors, measured = (function(args.steps, *args.betas) for function in (correction_factors, measured_factors))
    rows = zip(range(1, args.steps + 1), factors.tolist(), measured.tolist(), (1 / factors).tolist())
    files.write_table("bias_correction", ("step", "factor", "measured", "times_too_long_without"), rows)
    files.write_picture("bias_correction", factor_figure(factors, measured))


def beta(text: str) -> float:
    """A number from 0 to 1, without 1, for argparse."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 up to 1, without 1, and not {text}")
    return float(text)


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.stability.bias_correction", __doc__, runs=None)
    parser.add_argument("--steps", type=positive, default=3000, help="number of steps (default 3000)")  # D1
    parser.add_argument("--betas", type=beta, nargs=2, default=BETAS, help="Adam's β₁ and β₂ (default 0.9 0.999)")
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figures 7 and 13 of Mosbach et al. 2021: the loss around a pretrained, a failed and a successful model.

On the Stability of Fine-tuning BERT, ICLR 2021, arXiv:2006.04884, sections 5.1 and 7.5. θ_p, θ_f and θ_s are the
parameters of the pretrained model, of a failed and of a successful run (equations numbered by us):
  (m1)  f(α, β) = L(θ_p + α δ₁ + β δ₂),  δ₁ = θ_f - θ_p,  δ₂ = θ_s - θ_p
  (m2)  g(α, β) = ‖∇_θ L(θ_p + α δ₁ + β δ₂)‖₂, with --gradient: Figure 13

α and β go from -1.5 to 1.5 in 40 points each. L is the mean task loss over 128 training examples, without dropout.
All parameters move, the classifier too. The grid does not contain the points 0 and 1, so the three models are evaluated
by themselves, and so is the straight line from θ_f to θ_s: the rise of the loss on it is the barrier. On the embedded
sample (the study is in papers/stability/README.md):

    python -m papers.stability.surface studies-out/stability-sample/runs/rte-{devlin,ours}-seed0 --gradient

Differences:
  D1  A new model has no classifier, and the two runs start from different ones. θ_p has that of the successful run (and
      its pooler, where the checkpoint has none). The loss at θ_f and θ_s is the same with any choice.
  D2  The paper does not say which 128 examples it takes. Here they are the first training examples of the successful
      run.
  D3  The failed and the successful run need not have the same recipe. The paper does not give those of its runs.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import functional_call

from minbert.classifier import SentenceModel
from minbert.command_line import at_least, positive
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import INK, new_figure, style
from minbert.task import Batch
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import FinishedRun, batches, check_kept, check_models, check_runs, check_same_task

Parameters = Mapping[str, Tensor]
Levels = Callable[[float, float], np.ndarray]
EDGE = 1.5
BETWEEN = 21  # points on the line from θ_f to θ_s
ANCHORS = {"pretrained": (0.0, 0.0), "failed": (1.0, 0.0), "successful": (0.0, 1.0)}
LABELS = {"pretrained": "θ_p pretrained", "failed": "θ_f failed", "successful": "θ_s successful"}


class Value(NamedTuple):
    """The surface at one point. `place` is grid, between, or the name of one of the three models."""

    place: str
    alpha: float
    beta: float
    loss: float
    gradient_norm: float | None


class Plane:
    """The parameters θ_p + α δ₁ + β δ₂."""

    def __init__(self, pretrained: SentenceModel, failed: SentenceModel, successful: SentenceModel):
        """Raises InputError if the models do not have the same parameters."""
        self.origin, ends = parameters_of(pretrained), (parameters_of(failed), parameters_of(successful))
        shapes = [{name: p.shape for name, p in end.items()} for end in (self.origin, *ends)]
        if any(shape != shapes[0] for shape in shapes):
            raise InputError("the two RUNs do not have the same parameters: their methods differ")
        self.first, self.second = ({name: end[name] - p for name, p in self.origin.items()} for end in ends)

    def at(self, alpha: float, beta: float) -> dict[str, Tensor]:
        first, second = self.first, self.second
        return {name: p + alpha * first[name] + beta * second[name] for name, p in self.origin.items()}  # (m1)


def parameters_of(model: SentenceModel) -> dict[str, Tensor]:
    """All parameters, those that a method has frozen too. A shared parameter comes once."""
    return {name: p.detach() for name, p in model.named_parameters()}


def evaluate(
    model: SentenceModel, parameters: Parameters, examples: Sequence[Batch], gradient: bool
) -> tuple[float, float | None]:
    """The mean loss over all examples with these parameters in place of the model's, and with `gradient` its norm.

    The model is in eval mode, and its own parameters do not change: they are not even written for a moment.
    """
    count = sum(len(batch) for batch in examples)
    point = {name: p.clone().requires_grad_(gradient) for name, p in parameters.items()}
    total, sums = 0.0, {}
    with torch.set_grad_enabled(gradient):
        for batch in examples:
            loss = batch.task.loss(functional_call(model, point, (batch,)).logits, batch.labels)
            share = loss * (len(batch) / count)
            total += share.item()
            if gradient:
                add_gradients(sums, share, point)
    if not gradient:
        return total, None
    # The squares are summed in float64 on the CPU: MPS has no float64.
    return total, float(sum(g.cpu().double().square().sum() for g in sums.values()).sqrt())  # (m2)


def add_gradients(sums: dict[str, Tensor], loss: Tensor, point: Parameters) -> None:
    """Add the gradient of a batch to that of the batches before it."""
    gradients = torch.autograd.grad(loss, list(point.values()), allow_unused=True)
    for name, gradient in zip(point, gradients, strict=True):
        if gradient is not None:
            sums[name] = sums[name] + gradient if name in sums else gradient


def grid(points: int) -> list[tuple[float, float]]:
    """All (α, β): β is the outer loop."""
    axis = np.linspace(-EDGE, EDGE, points).tolist()
    return [(alpha, beta) for beta in axis for alpha in axis]


def segment(points: int = BETWEEN) -> list[tuple[float, float]]:
    """(α, β) on the straight line from θ_f to θ_s, both included."""
    return [(1 - t, t) for t in np.linspace(0, 1, points).tolist()]


def barrier(losses: Sequence[float]) -> float:
    """How far the loss rises on the way from the first point, θ_f, before it falls to the last: 0 if it only falls."""
    return max(losses) - losses[0]


def surface(
    models: Mapping[str, SentenceModel], examples: Sequence[Batch], points: int, gradient: bool
) -> Iterable[Value]:
    """The values at the three models, on the line from θ_f to θ_s, and on the grid.

    `models` has the keys of ANCHORS.
    """
    for place, (alpha, beta) in ANCHORS.items():  # their own parameters: no rounding of θ_p + (θ_f - θ_p)
        yield Value(place, alpha, beta, *evaluate(models[place], parameters_of(models[place]), examples, gradient))
    plane = Plane(*(models[place] for place in ANCHORS))
    for place, where in (("between", segment()), ("grid", grid(points))):
        for alpha, beta in where:
            # Each model would do: the parameters are the plane's.
            loss = evaluate(models["pretrained"], plane.at(alpha, beta), examples, gradient)
            yield Value(place, alpha, beta, *loss)


def loss_levels(low: float, high: float) -> np.ndarray:
    """16 contours from low to high, denser where the loss is low."""
    return low + (high - low) * np.linspace(0, 1, 16) ** 2


def gradient_levels(low: float, high: float) -> np.ndarray:
    """16 contours from low to high with equal ratios. 0 has no logarithm: the lowest is a millionth of the highest."""
    return np.geomspace(max(low, high * 1e-6), high, 16)


def surface_figure(values: Sequence[Value], heights: Sequence[float], levels: Levels, title: str, unit: str) -> Figure:
    """Filled contours of the heights of all values on the grid, with the three models as points.

    A height that is not finite is left white.
    """
    on_grid = [height for value, height in zip(values, heights, strict=True) if value.place == "grid"]
    size = round(len(on_grid) ** 0.5)
    z = np.ma.masked_invalid(np.reshape(on_grid, (size, size)))
    low, high = float(z.min()), float(z.max())
    contours = levels(low, max(high, low + 1e-6))
    axis = np.linspace(-EDGE, EDGE, size)
    with style():
        figure = new_figure(height=4.9, width=6.0)
        axes = figure.add_subplot()
        norm = BoundaryNorm(contours, 256)  # equal steps of colour between the contours
        filled = axes.contourf(axis, axis, z.clip(contours[0], high), contours, cmap="cividis", norm=norm)
        axes.contour(axis, axis, z, contours, colors="white", linewidths=0.3, alpha=0.6)
        bar = figure.colorbar(filled, ax=axes, label=unit, format=lambda value, _: f"{value:.2g}")
        bar.set_ticks(contours[::3])
        bar.minorticks_off()
        mark_models(axes, values, heights)
        axes.set(xlabel="α, towards the failed run", ylabel="β, towards the successful run", aspect="equal")
        axes.set_title(f"{title}. Dashed: from failed to successful", loc="left", fontsize=10)
        return figure


def mark_models(axes: Axes, values: Sequence[Value], heights: Sequence[float]) -> None:
    """A labelled point for each model, and the line from θ_f to θ_s."""
    axes.plot([1, 0], [0, 1], color="white", linewidth=1, linestyle="--")
    for value, height in zip(values, heights, strict=True):
        if value.place not in ANCHORS:
            continue
        axes.plot(value.alpha, value.beta, marker="o", markersize=6, color="white", markeredgecolor=INK)
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "boxstyle": "round,pad=0.2"}
        text = f"{LABELS[value.place]}: {height:.2g}"
        below = value.place != "successful"  # of the white line
        axes.annotate(text, (value.alpha, value.beta), (0, -18 if below else 9), textcoords="offset points",
                      ha="center", bbox=box, fontsize=9, color=INK)  # fmt: skip


def load_models(failed: FinishedRun, successful: FinishedRun, device: torch.device) -> dict[str, SentenceModel]:
    """The three models on the device."""
    pretrained = successful.pretrained()  # D1
    models = {"pretrained": pretrained, "failed": failed.trained(), "successful": successful.trained()}
    return {place: model.to(device) for place, model in models.items()}


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write surface.tsv, the picture of the losses, and with --gradient that of the gradient norms."""
    runs = sorted(args.runs, key=lambda run: not run.failed)  # D3
    check_runs(runs)
    check_same_task(runs)
    if [run.failed for run in runs] != [True, False]:
        raise InputError("a surface needs one failed and one successful RUN")
    check_models(runs)
    check_kept(runs)
    device = choose_device(args)
    models = load_models(*runs, device)
    examples = list(batches(runs[1].dataset("train"), args.batch_size, device, args.examples))  # D2
    count = len(ANCHORS) + BETWEEN + args.points**2
    values = list(progress(surface(models, examples, args.points, args.gradient), "surface", count))
    files.write_table("surface", Value._fields, values)
    task = runs[0].tasks[0].name
    losses = [value.loss for value in values]
    files.write_picture("surface", surface_figure(values, losses, loss_levels, f"Training loss, {task}", "loss"))
    if args.gradient:
        norms = [value.gradient_norm for value in values]
        title, unit = f"Norm of the gradient, {task}", "L2 norm of the gradient"
        figure = surface_figure(values, norms, gradient_levels, title, unit)
        files.write_picture("surface-gradient", figure)
    height = barrier([value.loss for value in values if value.place == "between"])
    print(f"barrier: on the line from the failed to the successful model the loss rises by {height:.4f}")


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.stability.surface", __doc__, runs=2)
    add_device_flags(parser)
    parser.add_argument("--points", type=at_least(2), default=40, help="points of each axis (default 40)")
    parser.add_argument("--examples", type=positive, default=128, help="training examples of the loss (default 128)")
    parser.add_argument("--gradient", action="store_true", help="also the norm of the gradient: Figure 13")
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figures 4, 10, 11 and 12 of Mosbach et al. 2021: the gradients of layers in failed and successful runs.

On the Stability of Fine-tuning BERT, ICLR 2021, arXiv:2006.04884, sections 5.1 and 7.4. In a failed run the gradients
of the lower layers vanish, the paper says, and those of the pooler and the classifier stay large. For each weight
matrix W, before clipping (equation numbered by us):
  (m1)  ‖∇_W L‖₂ = √(Σ_ij (∂L/∂W_ij)²)

The norms are those that the run has recorded: train.py --record gradients --record-every 10, in a study
record = ["gradients"] and record-every = 10. On the embedded sample (the study is in papers/stability/README.md):

    python -m papers.stability.gradients studies-out/stability-sample/runs/*
    python -m papers.stability.gradients studies-out/stability-sample/runs/* --weights all --out figures-out/all

Differences:
  D1  The text of the paper does not name the matrices of Figure 4. Here it is the query of the attention, and --weights
      takes others. Layers are counted from 0, as in the paper's "layer0"; ALBERT's only layer is layer 0.
  D2  The paper shows one failed and one successful run. Here a line is the geometric mean over the failed, or over the
      successful, RUNs of one recipe. With one RUN it is that run.
  D3  --term shows the gradient of the task, or of a penalty, alone. The default is the whole loss, which in a run
      without a penalty is that of the task. Recorded steps whose loss lacks the term are left out.
  D4  The text does not say how often the norms are taken. The paper's program takes them every tenth step, and so do
      the runs of figure-runs.toml. A short run needs them more often.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minbert.command_line import positive
from minbert.errors import InputError
from minbert.files import read_lines
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import COLORS, DASHES, WIDTH, add_legend, make_logarithmic, new_figure, style
from minbert.training.step_lines import is_number
from papers.figure import figure_parser, run_figure
from papers.finished_run import FinishedRun
from papers.stability.runs import PANEL, Group, group_runs, marker
from study.curves import Curve, mean_curve

WEIGHTS = (
    "attention.query", "attention.key", "attention.value", "attention.output", "feed_forward.up", "feed_forward.down",
)  # fmt: skip
DEPTHS = 5  # layers in a picture: more lines hide each other
Steps = dict[int, dict[str, float]]  # step -> {parameter: norm}


def read_norms(run: FinishedRun, term: str) -> Steps:
    """The norms of each recorded step that has this term of the loss. Raises InputError if no step has it."""
    path = run.folder / "gradients.jsonl"
    if not path.exists():
        raise InputError(f"{run.folder} has no recorded gradients: the run needs --record gradients")
    steps: Steps = {}
    known: dict[str, None] = {}  # the terms of all steps, as an ordered set
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            terms = {name: dict(norms) for name, norms in row["gradients"].items()}
            step = int(row["step"])  # D4
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{path} line {number} is not a line of recorded gradients") from None
        if list(terms) == ["all"]:
            terms["task"] = terms["all"]  # no penalty: the whole gradient is that of the task
        known |= dict.fromkeys(terms)
        if term in terms:
            steps[step] = {name: norm for name, norm in terms[term].items() if is_number(norm)}  # (m1)
    if not known:
        raise InputError(f"{path} is empty: the run has fewer steps than lie between two records")
    if not steps:
        raise InputError(f"{path}: no term {term}, the terms are {', '.join(known)}")
    return steps


def parameter_names(weight: str, layers: Sequence[int], task: str) -> dict[str, str]:
    """{name of the line: parameter}: the weight in each layer, then pooler and classifier."""
    names = {f"layer {layer}": f"bert.layers.{layer}.{weight}.weight" for layer in layers}
    return names | {"pooler": "bert.pooler.weight", "classifier": f"heads.{task}.weight"}


def recorded_layers(runs: Iterable[Steps]) -> list[int]:
    """The layers whose gradients are there in one of the runs or more, from the bottom."""
    names = {name for steps in runs for norms in steps.values() for name in norms}
    return sorted({int(match[1]) for name in names if (match := re.match(r"bert\.layers\.(\d+)\.", name))})


def spread_out(layers: Sequence[int], count: int) -> list[int]:
    """At most `count` of the layers, evenly spread, with the first and the last; for a count of 1 the first."""
    if not layers:
        return []
    return [layers[i] for i in sorted({round(x) for x in np.linspace(0, len(layers) - 1, count).tolist()})]


def norm_curve(steps: Steps, parameter: str) -> Curve:
    """{step: norm} of a parameter. A norm of 0 has no logarithm and is left out."""
    return {step: norms[parameter] for step, norms in steps.items() if norms.get(parameter, 0) > 0}


def geometric_mean(curves: Sequence[Curve]) -> Curve:
    """The geometric mean over the curves that have a value at a step."""
    xs, means, _ = mean_curve([{step: math.log(value) for step, value in curve.items()} for curve in curves])
    return {int(x): math.exp(mean) for x, mean in zip(xs, means)}  # D2


def group_lines(group: Group, norms: dict[Path, Steps], parameters: dict[str, str]) -> dict[str, Curve]:
    """{name of the line: mean curve of the runs}. `norms` by the folder of the run."""
    return {
        line: geometric_mean([norm_curve(norms[run.folder], parameter) for run in group.runs])
        for line, parameter in parameters.items()
    }


def line_look(names: Sequence[str]) -> dict[str, dict]:
    """The colour and dashes of each line: layers from dark at the bottom to light, pooler and classifier dashed."""
    layers = [name for name in names if name.startswith("layer")]
    shades = np.linspace(0, 0.85, len(layers))
    # cividis goes from dark to light for readers of all kinds of colour vision.
    looks = {name: {"color": colormaps["cividis"](shade)} for name, shade in zip(layers, shades, strict=True)}
    return looks | {
        "pooler": {"color": COLORS[5], "linestyle": DASHES[1]},
        "classifier": {"color": COLORS[3], "linestyle": DASHES[2]},
    }


def draw_panel(axes: Axes, lines: dict[str, Curve]) -> None:
    """A line for each layer, the pooler and the classifier."""
    for name, look in line_look(list(lines)).items():
        curve = lines[name]
        axes.plot(list(curve), list(curve.values()), linewidth=1.4, marker=marker(curve), markersize=4, **look)
    axes.grid()
    axes.xaxis.get_major_locator().set_params(integer=True)


def gradient_figure(panels: dict[str, list[dict[str, Curve]]], titles: Sequence[str]) -> Figure:
    """{weight: the lines of each group}: a row of panels for each weight, a column for each group."""
    with style():
        figure = new_figure(height=1.6 + 1.9 * len(panels), width=max(WIDTH, PANEL * len(titles)))
        rows = figure.subplots(len(panels), len(titles), squeeze=False, sharey=True, sharex="col")
        for row, (weight, of_groups) in zip(rows, panels.items(), strict=True):
            for axes, lines in zip(row, of_groups, strict=True):
                draw_panel(axes, lines)
            row[0].set_ylabel(f"{weight}\nL2 norm of the gradient")
        make_logarithmic(rows[0, 0].yaxis)  # shared by all panels
        for axes, title in zip(rows[0], titles, strict=True):
            axes.set_title(title.replace(": ", ":\n"), loc="left", fontsize=10)
        for axes in rows[-1]:
            axes.set_xlabel("step")
        looks = line_look(list(next(iter(panels.values()))[0]))
        add_legend(figure, [Line2D([], [], linewidth=1.4, label=name, **look) for name, look in looks.items()])
        return figure


def check_weights(weights: Sequence[str]) -> list[str]:
    """The matrices of --weights. Raises InputError for an unknown one."""
    unknown = [weight for weight in weights if weight not in (*WEIGHTS, "all")]
    if unknown:
        raise InputError(f"--weights {unknown[0]}: choose from {', '.join(WEIGHTS)}, all")
    return list(WEIGHTS) if "all" in weights else list(dict.fromkeys(weights))


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write gradients.tsv, one row for each weight, line, group of runs and step, and the picture."""
    weights = check_weights(args.weights)
    groups, task = group_runs(args.runs), args.runs[0].tasks[0].name
    norms = {run.folder: read_norms(run, args.term) for run in args.runs}
    layers = spread_out(recorded_layers(norms.values()), args.layers)
    panels = {
        weight: [group_lines(group, norms, parameter_names(weight, layers, task)) for group in groups]
        for weight in weights
    }
    table = [
        (weight, line, group.recipe, group.kind, len(group.runs), step, norm)
        for weight in weights
        for group, lines in zip(groups, panels[weight], strict=True)
        for line, curve in lines.items()
        for step, norm in curve.items()
    ]
    if not table:
        raise InputError("no gradient of these weights is recorded: the method trains none of them")
    files.write_table("gradients", ("weight", "line", "recipe", "kind", "runs", "step", "norm"), table)
    files.write_picture("gradients", gradient_figure(panels, [group.title for group in groups]))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.stability.gradients", __doc__)
    parser.add_argument(
        "--weights", nargs="+", default=[WEIGHTS[0]], help=f"all, or some of {' '.join(WEIGHTS)} (default {WEIGHTS[0]})"
    )  # D1
    parser.add_argument("--layers", type=positive, default=DEPTHS, help=f"layers in the picture (default {DEPTHS})")
    parser.add_argument("--term", default="all", help="all, task, or the name of a penalty (default all)")  # D3
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

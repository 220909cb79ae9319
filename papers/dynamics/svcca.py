"""Figure 2 of Hao et al. 2020: which layers compute other features after fine-tuning?

Investigating Learning Dynamics of BERT Fine-Tuning, AACL-IJCNLP 2020, section 4.

The SVCCA distance (Raghu et al. 2017, arXiv:1706.05806v2) between the outputs X and Y [n,D] of a layer in the
fine-tuned and in the pretrained model, for the same n tokens (numbered by us):
  (m1)  X - mean(X) = U S Vᵀ,  and U_X [n,k₁] = the first columns of U, which hold 99 % of the variance Σ s²
  (m2)  ρ = the singular values of U_Xᵀ U_Y: the canonical correlations of the kept directions
  (m3)  D_SVCCA(M_t‖M_0) = 1 - 1/c Σ_{i=1..c} ρ⁽ⁱ⁾

The distance is 0 for outputs that differ by a shift, a rotation or a scale, and near 1 for independent ones. On the
embedded sample (the study is in papers/dynamics/README.md):

    python -m papers.dynamics.svcca studies-out/dynamics-sample/runs/*

Differences:
  D1  The paper does not say how many directions it keeps. Here they hold 99 % of the variance, as in Raghu et al.
  D2  The paper prints "c denotes the hidden size". With fewer directions than that the distance of a layer to itself
      would be 1 - k/D and not 0. Here c = min(k₁, k₂). The table has both distances, and --literal draws the paper's.
  D3  The paper does not say which vectors it compares. [CLS] alone gives one vector for each example: too few, because
      with n near k unrelated outputs correlate. Here n = 20,000 real tokens of the dev set (--tokens), or all if there
      are fewer, drawn once, and the same ones for every model. At least 10 tokens for each direction are required.
  D4  Dropout is off. The models compute in float32, the distances in float64.
  D5  Layer 0 is the output of the embeddings, layer 1 is the paper's layer 0.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from minbert.command_line import Parser, positive
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from papers.dynamics.inside import TokenSample, hidden_states
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.lines import Panel, group_models, layer_figure, pretrained_and_trained

VARIANCE = 0.99  # the share of the variance in the directions that are kept  D1
TOKENS_FOR_EACH_DIRECTION = 10  # independent normal vectors of width 64: distance .27 at n = 100, .92 at 6400  D3


class Distance(NamedTuple):
    """The SVCCA distance of two matrices, and what it was computed from."""

    distance: float  # c = min(k1, k2); NaN if a matrix is constant
    literal: float  # c = D, as the paper prints
    n: int
    k1: int
    k2: int


def svcca(x: Tensor, y: Tensor, variance: float = VARIANCE) -> Distance:
    """X [n,D] and Y [n,E], row i of both from the same token -> their distance. c = D is the width of X."""
    return distance_between(leading_directions(x, variance), leading_directions(y, variance), x.shape[1])


def distance_between(u: Tensor, v: Tensor, width: int) -> Distance:
    """The distance of two matrices of this width from their leading directions [n,k1] and [n,k2]."""
    correlations = torch.linalg.svdvals(u.T @ v).clamp(max=1.0)  # (m2); rounding can give 1 + 1e-15
    total, k1, k2 = correlations.sum().item(), u.shape[1], v.shape[1]
    distance = 1 - total / min(k1, k2) if min(k1, k2) else float("nan")  # (m3) D2
    return Distance(distance, 1 - total / width, len(u), k1, k2)


def leading_directions(x: Tensor, variance: float = VARIANCE) -> Tensor:
    """[n,D] -> orthonormal columns [n,k] in float64, as few as hold this share of the variance. k = 0 for no variance.

    A direction whose variance is lost in rounding is not kept, even for the share 1.
    """
    x = x.double()  # D4
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    if s[0] <= max(x.shape) * torch.finfo(x.dtype).eps * x.norm():  # the rounding of the mean
        return u[:, :0]
    cumulative = s.square().cumsum(0)
    k = int((cumulative < variance * cumulative[-1]).sum()) + 1
    return u[:, :k]  # (m1)


def layer_distances(first: Sequence[Tensor], second: Sequence[Tensor], text: str) -> list[Distance]:
    """The distances between two lists of matrices [n,D], pair by pair. `text` stands in front of the progress bar.

    Raises InputError if there are too few tokens for the directions.
    """
    pairs = progress(zip(first, second, strict=True), f"{text}: SVCCA", len(first))
    return [check_tokens(svcca(x, y), text) for x, y in pairs]


def check_tokens(distance: Distance, text: str) -> Distance:
    """The distance itself. Raises InputError, which begins with the text, if it has too few tokens to mean anything."""
    directions = max(distance.k1, distance.k2)
    needed = TOKENS_FOR_EACH_DIRECTION * directions  # D3
    if distance.n < needed:
        raise InputError(f"{text}: {directions} directions need {needed} tokens or more, and there are {distance.n}")
    return distance


def add_svcca_flags(parser: Parser) -> None:
    """The flags of all scripts that use SVCCA."""
    parser.add_argument("--tokens", type=positive, default=20_000, help="compare on this many tokens (default 20000)")
    parser.add_argument("--literal", action="store_true", help="draw the distance with c = hidden size (D2 of svcca)")


def drawn(distance: Distance, literal: bool) -> float:
    """The value for the picture."""
    return distance.literal if literal else distance.distance


def axis(literal: bool) -> str:
    """The label of the picture's y axis."""
    return "SVCCA distance, c = hidden size" if literal else "SVCCA distance of the outputs"


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write svcca.tsv, one row for each run and layer, and the picture."""
    device, table, lines = choose_device(args), [], {}
    for name, runs in group_models(args.runs).items():
        for run in runs:
            tokens = TokenSample([run.dataset()], args.tokens)
            before, after = (
                tokens.collect(partial(hidden_states, model), args.batch_size, device, run.name)
                for model in pretrained_and_trained(run, device)
            )
            distances = layer_distances(after, before, run.name)
            lines.setdefault(name, []).append(dict(enumerate(drawn(d, args.literal) for d in distances)))  # D5
            table += [(name, run.name, layer, *distance) for layer, distance in enumerate(distances)]
    files.write_table("svcca", ("line", "run", "layer", *Distance._fields), table)
    title = "Outputs of the fine-tuned model against the pretrained one"
    files.write_picture("svcca", layer_figure(title, [Panel(axis(args.literal), lines)]))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.dynamics.svcca", __doc__)
    add_device_flags(parser)
    add_svcca_flags(parser)
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

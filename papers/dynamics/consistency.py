"""Figures 4 to 7 of Hao et al. 2020: do two fine-tuned models agree, layer by layer?

Investigating Learning Dynamics of BERT Fine-Tuning, AACL-IJCNLP 2020, section 5.

Two fine-tuned models M and M' read the same examples, and are compared as the other scripts compare a fine-tuned model
with the pretrained one: D_JS(M‖M') of the attention (attention.py) and D_SVCCA(M‖M') of the outputs (svcca.py).

--between seeds: two runs of one task that differ in their seeds, on the dev set of the task (Figures 4 and 5).
--between tasks: two runs of different tasks, on 200 dev examples of each task together (Figures 6 and 7).

On the embedded sample (the study is in papers/dynamics/README.md):

    python -m papers.dynamics.consistency --between seeds studies-out/dynamics-sample/runs/*
    python -m papers.dynamics.consistency --between tasks studies-out/dynamics-sample/runs/*

Differences:
  D1  As D1 to D4 of attention.py and D1 to D5 of svcca.py.
  D2  The paper has two models in each comparison. Here of S seeds all S(S-1)/2 pairs are compared, which share runs. Of
      two tasks the first runs are compared, the second runs, and so on. A line is the mean of its pairs, with a band of
      one standard deviation. The paper shows three pairs of tasks, here all pairs of the RUNs' tasks are shown.
  D3  The paper does not say which 200 examples it takes. Here they are drawn at random, the same ones each time, or all
      if there are fewer (--examples).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from minbert.command_line import positive
from minbert.data.dataset import Dataset
from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from minbert.training.inputs import read_rows
from papers.dynamics.attention import AXIS, attention_divergence
from papers.dynamics.inside import TokenSample, hidden_states
from papers.dynamics.svcca import Distance, add_svcca_flags, axis, drawn, layer_distances
from papers.figure import add_device_flags, choose_device, figure_parser, run_figure
from papers.finished_run import FinishedRun
from papers.lines import Panel, group_models, layer_figure

Pair = tuple[FinishedRun, FinishedRun]
Groups = Mapping[str, Sequence[FinishedRun]]
TITLES = {"seeds": "Two fine-tuned models with different seeds", "tasks": "Two models fine-tuned on different tasks"}


class Comparison(NamedTuple):
    """Two models, layer by layer."""

    divergences: list[float]  # of the attention of the layers 1 to L
    distances: list[Distance]  # of the outputs of the embeddings and of the layers 1 to L


def pairs_of_seeds(groups: Groups) -> dict[str, list[Pair]]:
    """All pairs of runs within each group. Raises InputError for a group of one run."""
    for name, runs in groups.items():
        if len(runs) < 2:
            raise InputError(f"--between seeds needs two runs of {name} that differ in their seeds only, not one")
    return {name: list(combinations(runs, 2)) for name, runs in groups.items()}  # D2


def pairs_of_tasks(groups: Groups) -> dict[str, list[Pair]]:
    """For each two groups their first runs, their second runs, and so on.

    Raises InputError unless there are two groups or more, of different tasks and equally long.
    """
    tasks = {runs[0].tasks[0].name for runs in groups.values()}
    if len(tasks) < 2 or len(tasks) < len(groups):
        raise InputError(
            "--between tasks needs runs of two or more tasks, which differ in their seeds only on each task"
        )
    if len({len(runs) for runs in groups.values()}) > 1:
        raise InputError("--between tasks needs equally many runs of each task")
    two_groups = combinations(groups.items(), 2)
    return {f"{a} and {b}": list(zip(first, second)) for (a, first), (b, second) in two_groups}  # D2


def datasets_of(pair: Pair, between: str, examples: int) -> list[Dataset]:
    """What a pair reads: the whole dev set of one task, or some dev examples of each of two tasks."""
    if between == "seeds":
        return [pair[0].dataset()]
    return [some_dev_examples(run, examples) for run in pair]


def some_dev_examples(run: FinishedRun, size: int) -> Dataset:
    """Dev examples drawn at random, the same ones for every run of the task."""
    (task,), settings = run.tasks, run.settings
    rows = read_rows(task, settings.data, "dev", size)  # D3
    return Dataset(task, rows, run.tokenizer, settings.max_length)


def compare(pair: Pair, datasets: Sequence[Dataset], args: argparse.Namespace, device: torch.device) -> Comparison:
    """Compare the models of two runs on the same inputs. Raises InputError if there are too few tokens."""
    models = [run.trained().to(device) for run in pair]
    text = " and ".join(run.name for run in pair)
    divergences = attention_divergence(*models, datasets, args.batch_size, device, text)  # D1
    tokens = TokenSample(datasets, args.tokens)
    states: list[list[Tensor]] = [
        tokens.collect(partial(hidden_states, model), args.batch_size, device, text) for model in models
    ]
    return Comparison(divergences.tolist(), layer_distances(*states, text))


def table_rows(line: str, pair: Pair, comparison: Comparison) -> list[tuple]:
    """A row for each layer. The embeddings, layer 0, have no attention."""
    divergences = [None, *comparison.divergences]
    return [
        (line, *(run.name for run in pair), layer, divergence, *distance)
        for layer, (divergence, distance) in enumerate(zip(divergences, comparison.distances, strict=True))
    ]


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write consistency-seeds.tsv or consistency-tasks.tsv, one row for each pair and layer, and the picture."""
    device, table = choose_device(args), []
    attention, features = {}, {}
    groups = group_models(args.runs)
    lines = pairs_of_seeds(groups) if args.between == "seeds" else pairs_of_tasks(groups)
    for line, pairs in lines.items():
        comparisons = []
        for pair in pairs:
            comparisons.append(compare(pair, datasets_of(pair, args.between, args.examples), args, device))
            table += table_rows(line, pair, comparisons[-1])
        attention[line] = [dict(enumerate(c.divergences, start=1)) for c in comparisons]
        features[line] = [dict(enumerate(drawn(d, args.literal) for d in c.distances)) for c in comparisons]
    name = f"consistency-{args.between}"
    files.write_table(name, ("line", "first", "second", "layer", "divergence", *Distance._fields), table)
    panels = [Panel(AXIS, attention), Panel(axis(args.literal), features)]
    files.write_picture(name, layer_figure(TITLES[args.between], panels))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.dynamics.consistency", __doc__)
    parser.add_argument("--between", choices=tuple(TITLES), required=True, help="what the two runs of a pair differ in")
    parser.add_argument("--examples", type=positive, default=200, help="of each task, between tasks (default 200)")
    add_device_flags(parser)
    add_svcca_flags(parser)
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

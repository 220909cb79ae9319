"""Figure 3 of Hao et al. 2020: how much does the last output change when one layer gets its pretrained parameters back?

Investigating Learning Dynamics of BERT Fine-Tuning, AACL-IJCNLP 2020, section 4.

For each layer l, with M_t^(l) the fine-tuned model whose layer l has its parameters from before fine-tuning, and the
distance of svcca.py between the outputs of the last layer (numbered by us):
  (m1)  D(l) = D_SVCCA(M_t^(l)‖M_t)

On the embedded sample (the study is in papers/dynamics/README.md):

    python -m papers.dynamics.replacement studies-out/dynamics-sample/runs/*

Differences:
  D1  As D1 to D4 of svcca.py. Layers are counted from 1, the paper counts from 0.
  D2  Layer l of the pretrained model computes in place of layer l of the fine-tuned one. No parameter is copied, so
      none has to be put back, and in ALBERT, whose layers share their parameters, one depth is replaced. Modules that a
      method inserted into the layer (adapters) are replaced, too: by those before the first step.
"""

import argparse
import sys
from functools import partial

import torch
from torch import Tensor

from minbert.bert import expand_attention_mask
from minbert.classifier import SentenceModel
from minbert.report.figure_files import FigureFiles
from minbert.task import Batch
from papers.dynamics.inside import TokenSample, hidden_states
from papers.dynamics.svcca import (
    Distance,
    add_svcca_flags,
    axis,
    check_tokens,
    distance_between,
    drawn,
    leading_directions,
)
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.lines import Panel, group_models, layer_figure, pretrained_and_trained


@torch.no_grad()
def last_outputs(pretrained: SentenceModel, trained: SentenceModel, batch: Batch) -> list[Tensor]:
    """The output of the last layer [B,T,D]: of the fine-tuned model, then with layer 1, 2, ... L put back.

    The batch is of the models' own task.
    """
    mask = expand_attention_mask(batch.attention_mask)
    hidden = hidden_states(trained, batch)
    outputs = [hidden[-1]]
    for number, layer in enumerate(pretrained.bert.layers):
        # The layers below are not touched, so their outputs need not be computed again.
        h = layer(hidden[number], mask, batch.task.name)  # D2
        outputs.append((h, *trained.encode(h, batch, start=number + 1))[-1])
    return outputs


def replacement_distances(
    pretrained: SentenceModel,
    trained: SentenceModel,
    tokens: TokenSample,
    batch_size: int,
    device: torch.device,
    text: str,
) -> list[Distance]:
    """D(l) for the layers 1 to L. Neither model changes."""
    unchanged, *replaced = tokens.collect(partial(last_outputs, pretrained, trained), batch_size, device, text)
    reference, width = leading_directions(unchanged), unchanged.shape[1]
    distances = (distance_between(leading_directions(x), reference, width) for x in replaced)  # (m1)
    return [check_tokens(distance, text) for distance in progress(distances, f"{text}: SVCCA", len(replaced))]


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write replacement.tsv, one row for each run and layer, and the picture."""
    device, table, lines = choose_device(args), [], {}
    for name, runs in group_models(args.runs).items():
        for run in runs:
            tokens = TokenSample([run.dataset()], args.tokens)
            models = pretrained_and_trained(run, device)
            distances = replacement_distances(*models, tokens, args.batch_size, device, run.name)
            rows = list(enumerate(distances, start=1))  # D1
            lines.setdefault(name, []).append({layer: drawn(d, args.literal) for layer, d in rows})
            table += [(name, run.name, layer, *distance) for layer, distance in rows]
    files.write_table("replacement", ("line", "run", "layer", *Distance._fields), table)
    title = "Last output when one layer gets its pretrained parameters back"
    files.write_picture("replacement", layer_figure(title, [Panel(axis(args.literal), lines)]))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.dynamics.replacement", __doc__)
    add_device_flags(parser)
    add_svcca_flags(parser)
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figure 1 of Hao et al. 2020: which layers attend differently after fine-tuning?

Investigating Learning Dynamics of BERT Fine-Tuning, AACL-IJCNLP 2020, section 3.

The Jensen-Shannon divergence between the attention of the fine-tuned model M_t and of the pretrained model M_0, for
each layer, on the dev set. A^h(i) is the distribution of head h over the tokens to which token i attends. With N
examples, H heads and W real tokens in example n (numbered by us):
  (m1)  D_JS(P‖Q) = ½ D_KL(P‖R) + ½ D_KL(Q‖R),  R = (P + Q)/2
  (m2)  D_JS(M_t‖M_0) = 1/N 1/H Σ_{n=1..N} Σ_{h=1..H} 1/W Σ_{i=1..W} D_JS(A_t^h(i)‖A_0^h(i))

Runs that differ in their seeds only are one line: their mean, with a band of one standard deviation. On the embedded
sample (the study is in papers/dynamics/README.md):

    python -m papers.dynamics.attention studies-out/dynamics-sample/runs/*

Differences:
  D1  The paper does not name the base of the logarithm. Here it is e, so the largest divergence is ln 2 = .693.
  D2  The paper does not say what happens to padding. Here no query is padding, and W counts [CLS] and [SEP] too. Each
      example has the same weight, as (m2) reads: tokens are not pooled. (With --pairs separate an example has two
      inputs, and each of them counts as one.)
  D3  The paper does not mention dropout. Here it is off.
  D4  Layers are counted from 1. The paper counts from 0.
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.report.figure_files import FigureFiles
from papers.dynamics.inside import attention_probabilities
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import batches
from papers.lines import Panel, group_models, layer_figure, pretrained_and_trained

AXIS = "JS divergence of the attention (nats)"


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Distributions [...,T] -> their divergence [...] in nats. (m1) in the form H(R) - H(P)/2 - H(Q)/2, H the entropy.

    entr(x) = -x ln x is 0 at 0, where x ln(x/r) would be NaN.
    """
    r = (p + q) / 2
    return torch.special.entr(r).sum(-1) - (torch.special.entr(p) + torch.special.entr(q)).sum(-1) / 2  # (m1) D1


def divergence_of_examples(p: Tensor, q: Tensor, mask: Tensor) -> Tensor:
    """Attentions [B,H,T,T] of one layer, real tokens [B,T] -> means over heads and tokens [B], in float64."""
    p, q, mask = (x.cpu() if x.device.type == "mps" else x for x in (p, q, mask))  # MPS has no float64
    of_queries = jensen_shannon(p.double(), q.double())  # (B,H,T,T) -> (B,H,T)
    real = mask[:, None].double()  # (B,1,T)
    return ((of_queries * real).sum(-1) / real.sum(-1)).mean(1)  # (B,H,T) -> (B,H) -> (B)  D2


def attention_divergence(
    first: SentenceModel,
    second: SentenceModel,
    datasets: Sequence[Dataset],
    batch_size: int,
    device: torch.device,
    text: str,
) -> Tensor:
    """D_JS of each layer [L], on the examples of all datasets. Both models are in eval mode."""
    examples: list[Tensor] = []  # (L,B) of each batch
    for dataset in datasets:
        total = -(-len(dataset) // batch_size)
        for batch in progress(batches(dataset, batch_size, device), text, total):
            layers = zip(attention_probabilities(first, batch), attention_probabilities(second, batch), strict=True)
            divergences = [divergence_of_examples(p, q, batch.attention_mask) for p, q in layers]
            examples.append(torch.stack(divergences).cpu())
    return torch.cat(examples, dim=1).mean(1)  # (m2)


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write attention.tsv, one row for each run and layer, and the picture."""
    device, table, lines = choose_device(args), [], {}
    for name, runs in group_models(args.runs).items():
        for run in runs:
            models = pretrained_and_trained(run, device)  # D3: both in eval mode
            values = attention_divergence(*models, [run.dataset()], args.batch_size, device, run.name).tolist()
            curve = dict(enumerate(values, start=1))  # D4
            lines.setdefault(name, []).append(curve)
            table += [(name, run.name, layer, value) for layer, value in curve.items()]
    files.write_table("attention", ("line", "run", "layer", "divergence"), table)
    title = "Attention of the fine-tuned model against the pretrained one"
    files.write_picture("attention", layer_figure(title, [Panel(AXIS, lines)]))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.dynamics.attention", __doc__)
    add_device_flags(parser)
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figure 2 (a, b) of Mosbach et al. 2021: what fine-tuning forgets, and in which layers.

On the Stability of Fine-tuning BERT, ICLR 2021, arXiv:2006.04884, section 4.1. The perplexity of masked language
modelling of a fine-tuned model whose top k layers are reset to the pretrained ones, for k = 0 to L, with the pretrained
head. With M masked tokens w_i of a text (equation numbered by us):
  (m1)  PPL = exp(-1/M Σ_i ln p(w_i))

Each line is one run. The paper finds that about 10 of 24 layers have to be reset, in failed and in successful runs, and
that failed runs forget much more. On the embedded sample, whose text is held out from its pretraining (the study is in
papers/stability/README.md):

    python -m papers.stability.perplexity studies-out/stability-sample/runs/*

For another model, --text FILE is a text, such as the raw test file of WikiText-2. The model's folder needs its head.

Differences:
  D1  The paper gives no protocol. Here the words of the text are cut into blocks of --block tokens, without regard to
      lines. 15 % of the tokens are chosen once, as in pretraining (80 % become [MASK], 10 % a random token, 10 % stay),
      so all k and all runs have the same masks. Special tokens are never chosen. The first token of the first block is
      always chosen, because minbert's masking does so.
  D2  The paper does not mention the embeddings. Here those of the run stay at every k. With --reset-embeddings they are
      reset at k = L too, where the model then is the pretrained one.
  D3  The output matrix of the head is the pretrained embedding matrix, not the fine-tuned one to which it is tied.
  D4  The sample's text has no blocks: each pair of passages is an input of its own, as in its pretraining.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

import sample
from minbert.bert import BertModel, expand_attention_mask
from minbert.command_line import at_least
from minbert.data.dataset import Dataset
from minbert.data.masking import Masking
from minbert.data.readers import Example, Examples
from minbert.errors import InputError
from minbert.files import read_lines
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.report.figure_files import FigureFiles
from minbert.report.picture_style import GREY, INK, WIDTH, add_legend, make_logarithmic, new_figure, style
from minbert.task import Batch
from minbert.tokenizer import Tokenizer
from papers.figure import add_device_flags, choose_device, figure_parser, progress, run_figure
from papers.finished_run import FinishedRun, check_kept, check_models, no_warnings
from papers.stability.runs import KIND_COLORS, PANEL, Group, group_runs
from sample.corpus import pairs

SEED = 0
SAMPLE_PAIRS = 500  # of the held-out text of sample/pretrain.py


def read_blocks(path: Path, tokenizer: Tokenizer, block: int) -> Examples:
    """The words of a text in blocks of at most `block` tokens, [CLS] and [SEP] included.

    Raises InputError for a file that is missing, empty or not UTF-8.
    """
    words = [word for _, line in read_lines(path) for word in line.split()]
    if not words:
        raise InputError(f"{path} has no words")
    # With the space before it a byte-level tokenizer cuts a word as it does inside a text.
    encodings = tokenizer.backend.encode_batch([f" {word}" for word in words], add_special_tokens=False)
    texts, length = [[]], 2
    for word, encoding in zip(words, encodings, strict=True):
        if length + len(encoding.ids) > block and texts[-1]:  # D1
            texts.append([])
            length = 2
        texts[-1].append(word)
        length += len(encoding.ids)
    return Examples(path, [Example(str(i), " ".join(text), None, None) for i, text in enumerate(texts)], [])


def sample_text() -> Examples:
    """Pairs of passages in the sample's language, on which its model was not trained."""
    rows = itertools.islice(pairs("held-out"), SAMPLE_PAIRS)  # D4
    return Examples(sample.MODEL, [Example(str(i), row.first, row.second, None) for i, row in enumerate(rows)], [])


def mask_text(examples: Examples, tokenizer: Tokenizer, max_length: int) -> Batch:
    """All inputs [N,T] with their masks, and labels [N,T] that are IGNORE where no token was chosen."""
    task = MLM if examples.rows[0].pair is not None else replace(MLM, text=("text",))
    dataset = Dataset(task, examples, tokenizer, max_length)
    batch = dataset.collate(list(range(len(dataset))))
    masking = Masking(len(tokenizer), tokenizer.mask_id, tokenizer.special_ids)
    ids, labels = masking(batch.input_ids, batch.attention_mask, torch.Generator().manual_seed(SEED))  # D1
    return replace(batch, input_ids=ids, labels=labels)


def split_text(text: Batch, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Batches of similar length, cut to their longest input. Inputs without a label are left out."""
    lengths = text.attention_mask.sum(1)
    order = lengths.argsort(descending=True, stable=True)
    order = order[(text.labels[order] != IGNORE).any(1)]
    for rows in order.split(batch_size):
        width = int(lengths[rows].max())
        yield Batch(
            text.input_ids[rows, :width], text.token_type_ids[rows, :width], text.attention_mask[rows, :width],
            text.labels[rows, :width], rows, text.task,
        ).to(device)  # fmt: skip


def mixed_states(
    tuned: BertModel, pretrained: BertModel, batch: Batch, task: str, reset_embeddings: bool
) -> list[Tensor]:
    """The last hidden states [B,T,D] with the top k layers reset, for k = 0 to L.

    The lower layers of the run are computed once for all k. `task` is the task of the run, for the modules that a
    method has put into the layers.
    """
    mask, layers = expand_attention_mask(batch.attention_mask), len(tuned.layers)
    hidden = [tuned.embeddings(batch.input_ids, batch.token_type_ids)]
    for layer in tuned.layers:
        hidden.append(layer(hidden[-1], mask, task))
    if reset_embeddings:
        hidden[0] = pretrained.embeddings(batch.input_ids, batch.token_type_ids)  # D2
    states = []
    for k in range(layers + 1):
        h = hidden[layers - k]
        for layer in pretrained.layers[layers - k :]:
            h = layer(h, mask)
        states.append(h)
    return states


def negative_log_likelihood(model: MaskedLanguageModel, h: Tensor, labels: Tensor) -> float:
    """The sum over the chosen tokens of the last hidden states [B,T,D]. The head and its matrix are pretrained."""
    chosen = labels != IGNORE
    h = model.norm(model.activation(model.transform(h[chosen])))  # (B,T,D) -> (M,D)
    logits = F.linear(h, model.bert.embeddings.token.weight, model.bias)  # D3
    return F.cross_entropy(logits, labels[chosen], reduction="sum").item()


@torch.no_grad()
def perplexities(
    tuned: BertModel,
    pretrained: MaskedLanguageModel,
    text: Sequence[Batch],
    task: str = "",
    reset_embeddings: bool = False,
) -> list[float]:
    """The perplexity with the top k layers reset, for k = 0 to L. Both models are in eval mode."""
    sums = [0.0] * (len(tuned.layers) + 1)
    for batch in text:
        for k, h in enumerate(mixed_states(tuned, pretrained.bert, batch, task, reset_embeddings)):
            sums[k] += negative_log_likelihood(pretrained, h, batch.labels)
    count = sum(int((batch.labels != IGNORE).sum()) for batch in text)
    return [exponential(total / count) for total in sums]  # (m1)


def exponential(value: float) -> float:
    """exp, infinite where it is too large for a float: a model that diverged can be that wrong."""
    return math.exp(value) if value < 709 else math.inf


def perplexity_figure(groups: Sequence[Group], curves: dict[Path, list[float]], pretrained: float) -> Figure:
    """A panel for each group of runs. `curves` by the folder of the run."""
    with style():
        figure = new_figure(height=3.4, width=max(WIDTH, PANEL * len(groups)))
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for axes, group in zip(panels, groups, strict=True):
            draw_group(axes, [curves[run.folder] for run in group.runs], KIND_COLORS[group.kind])
            axes.axhline(pretrained, color=GREY, linewidth=1.2, linestyle="--", zorder=1)
            axes.set_title(group.title.replace(": ", ":\n"), loc="left", fontsize=10)
            axes.set_xlabel("k, top layers reset")
        make_logarithmic(panels[0].yaxis)  # shared by all panels
        panels[0].set_ylabel("perplexity")
        run = Line2D([], [], color=INK, linewidth=1, marker="o", markersize=3, label="one run")
        add_legend(figure, [run, Line2D([], [], color=GREY, linestyle="--", label="pretrained model")])
        return figure


def draw_group(axes: Axes, curves: Sequence[Sequence[float]], color: str) -> None:
    """A thin line for each run."""
    for curve in curves:
        axes.plot(range(len(curve)), curve, color=color, linewidth=1, marker="o", markersize=3, alpha=0.7)
    axes.grid()
    axes.xaxis.get_major_locator().set_params(integer=True)


def load_text(args: argparse.Namespace, run: FinishedRun, model: MaskedLanguageModel) -> Batch:
    """The masked text of --text, or the sample's. Raises InputError if another model has no --text."""
    if run.tokenizer.mask_id is None:
        raise InputError(f"{run.settings.model}: the tokenizer has no {run.tokenizer.kind.mask}")
    longest = model.bert.config.positions
    if args.text is not None:
        block = min(args.block, longest)
        return mask_text(read_blocks(args.text, run.tokenizer, block), run.tokenizer, block)
    if Path(run.settings.model).resolve() != sample.MODEL.resolve():
        raise InputError(f"{run.settings.model} is not the sample's model: it needs --text FILE")
    return mask_text(sample_text(), run.tokenizer, longest)


def draw(args: argparse.Namespace, files: FigureFiles) -> None:
    """Write perplexity.tsv, one row for each run and k, and the picture."""
    groups = group_runs(args.runs)
    check_models(args.runs)
    check_kept(args.runs)
    device = choose_device(args)
    with no_warnings():  # the pooler, which the checkpoint may lack, is not part of the head
        model = MaskedLanguageModel.from_pretrained(args.runs[0].settings.model).to(device)
    text = list(split_text(load_text(args, args.runs[0], model), args.batch_size, device))
    (untuned,) = perplexities(model.bert, model, text)[:1]
    curves = {}
    for run in progress(args.runs, "perplexity"):
        tuned = run.trained().bert.to(device)
        curves[run.folder] = perplexities(tuned, model, text, run.tasks[0].name, args.reset_embeddings)
    table = [
        (group.recipe, group.kind, run.name, k, value)
        for group in groups
        for run in group.runs
        for k, value in enumerate(curves[run.folder])
    ]
    files.write_table(
        "perplexity", ("recipe", "kind", "run", "k", "perplexity"), [*table, ("pretrained", "", "", "", untuned)]
    )
    files.write_picture("perplexity", perplexity_figure(groups, curves, untuned))


def main(argv: list[str]) -> int:
    parser = figure_parser("papers.stability.perplexity", __doc__)
    add_device_flags(parser)
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text (default: the sample's, for its model)")
    parser.add_argument("--block", type=at_least(5), default=512, help="tokens in a block of --text (default 512)")
    parser.add_argument("--reset-embeddings", action="store_true", help="reset the embeddings too where k = L")
    return run_figure(parser, argv, draw)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

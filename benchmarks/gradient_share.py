"""How strong a penalty is: |gradient of the penalty| / |gradient of the task loss|, for several ε or σ.

    python -m benchmarks.gradient_share --model $MODEL --data $DATA --option smart       # or r3f, lnsr, noise, l2sp

The weight is 1, and SMART has no proximal term. `noise` has no penalty: for it the numerator is the gradient of L with
noise minus the gradient of L without noise, with the same dropout masks. Printed is the mean over 8 batches of 32, with
a new head and after one epoch of plain fine-tuning.
"""

import torch

from benchmarks.common import FixedSteps, make_parser, no_scores
from minbert.bert import BertModel
from minbert.classifier import Output, SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.task import Batch
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import Objective, fit
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from regularizers import build
from regularizers.base import Sum
from regularizers.perturbation import scaled_noise, second_pass


def sweep(option: str, name: str, values, *more: str) -> list[list[str]]:
    """The settings of one option for each value of its hyper-parameter `name`."""
    return [[f"{option}.{name}={v:g}", *(f"{option}.{text}" for text in more)] for v in values]


MODES = ("dropout=shared", "dropout=independent")
SIZES = (0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
ROWS = {
    "smart": [row for mode in MODES for row in sweep("smart", "eps", SIZES, mode, "mu=0")]
    + [["smart.project=normalize", "smart.mu=0", f"smart.{mode}"] for mode in MODES],
    "r3f": [row for mode in MODES for row in sweep("r3f", "eps", (*SIZES, 5e-2), mode)],
    "lnsr": [row for mode in MODES for row in sweep("lnsr", "sigma", SIZES, mode, "noise=absolute")]
    + sweep("lnsr", "relative", (1e-2, 2e-2, 3e-2, 5e-2), "noise=relative"),
    "noise": sweep("noise", "sigma", (1.5e-2, 5e-2, 1e-1, 2e-1, 3e-1, 5e-1), "noise=absolute")
    + sweep("noise", "relative", (5e-2, 1e-1, 2e-1, 3e-1, 5e-1), "noise=relative"),
    "l2sp": sweep("l2sp", "alpha", (1e-3, 1e-2, 1e-1, 1)),
}


def gradient_norm(loss: torch.Tensor, model) -> float:
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return torch.stack([g.norm() for g in grads if g is not None]).norm().item()


def share(model, method, dataset, batches) -> float:
    """Mean over the batches of |∇ penalty| / |∇ task loss|."""
    shares = []
    model.train()
    for number, rows in enumerate(batches):
        torch.manual_seed(number)
        batch = dataset.collate(rows)
        clean = model(batch)
        loss = dataset.task.loss(clean.logits, batch.labels)
        shares.append(gradient_norm(added(method, model, batch, clean, loss), model) / gradient_norm(loss, model))
    return sum(shares) / len(shares)


def added(method: Sum, model: SentenceModel, batch: Batch, clean: Output, loss: torch.Tensor) -> torch.Tensor:
    """What a method adds to the task loss of the clean pass."""
    if "noise" not in method.parts:
        return sum(method.penalty(model, batch, clean).values())
    part, h0 = method.parts["noise"], clean.hidden[0]
    h = h0 + scaled_noise(h0, batch.attention_mask, part.noise, part.sigma, part.relative)
    return batch.task.loss(second_pass(model, batch, h, clean, "shared"), batch.labels) - loss


@torch.no_grad()
def entry_deviation(model: SentenceModel, dataset: Dataset, rows: list[int]) -> float:
    """The standard deviation of the entries of the embedding output, real tokens only, without dropout."""
    batch = dataset.collate(rows)
    return model.eval().embed(batch)[batch.attention_mask.bool()].std().item()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--option", default="smart", choices=list(ROWS))
    parser.add_argument("--containing", default="", help="only rows with this text, e.g. dropout=shared")
    args = parser.parse_args()
    rows = [settings for settings in ROWS[args.option] if args.containing in " ".join(settings)]
    task = TASKS[args.task]
    dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 256)
    batches = dataset.shuffled(32, seed=0, epoch=0)
    torch.manual_seed(0)
    model = SentenceModel(BertModel.from_pretrained(args.model), [task])
    methods = [build(args.option, settings) for settings in rows]
    if args.option != "noise":  # its wrapper would put noise into the clean pass, too
        for method in methods:
            method.attach(model)
    deviation = entry_deviation(model, dataset, batches[0])
    print(f"standard deviation of the entries of the embedding output: {deviation:.3f}")
    start = [share(model, method, dataset, batches[:8]) for method in methods]
    settings = Settings(lr=5e-5, warmup=0.1)
    fit(Objective(model, build("finetune")), FixedSteps(dataset, batches), no_scores, settings, setup("cpu"))
    print(f"{'':42} new head   after one epoch")
    for method, settings, first in zip(methods, rows, start):
        print(f"{' '.join(settings):42} {first:8.1e}   {share(model, method, dataset, batches[:8]):8.1e}", flush=True)


if __name__ == "__main__":
    main()

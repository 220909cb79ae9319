"""How much of SMART is there: |gradient of the penalty| / |gradient of the task loss|, for several ε.

    python -m benchmarks.gradient_share --model $MODEL --data $DATA --task mrpc

Weight 1, no proximal term; mean over 8 batches of 32, at a new head and after one epoch of plain fine-tuning.
"""

import torch

from benchmarks.common import Silent, parser
from minbert.batches import Dataset
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.readers import read_examples
from minbert.runtime import setup
from minbert.settings import Settings
from minbert.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training import Objective, fit
from regularizers import build

ROWS = [(f"clamp {eps:g} {mode}", [f"smart.eps={eps:g}", f"smart.dropout={mode}"])
        for mode in ("shared", "independent") for eps in (0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)]  # fmt: skip
ROWS += [
    (f"normalize {mode}", ["smart.project=normalize", f"smart.dropout={mode}"]) for mode in ("shared", "independent")
]


def norm(loss: torch.Tensor, model) -> float:
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return torch.stack([g.norm() for g in grads if g is not None]).norm().item()


def share(model, dataset, batches, settings: list[str]) -> float:
    """Mean over the batches of |∇ penalty| / |∇ task loss|."""
    method, shares = build("smart", [*settings, "smart.mu=0"]), []
    method.attach(model)
    model.train()
    for number, rows in enumerate(batches):
        torch.manual_seed(number)
        batch = dataset.collate(rows)
        clean = model(batch)
        penalty = method.penalty(model, batch, clean)["smart.smoothness"]
        shares.append(norm(penalty, model) / norm(dataset.task.loss(clean.logits, batch.labels), model))
    return sum(shares) / len(shares)


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--task", default="mrpc")
    args = flags.parse_args()
    task = TASKS[args.task]
    dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 256)
    batches = dataset.shuffled(32, 0, 0)
    torch.manual_seed(0)
    model = SentenceModel(BertModel.from_pretrained(args.model), [task])
    start = [share(model, dataset, batches[:8], settings) for _, settings in ROWS]
    settings = Settings(lr=5e-5, warmup=0.1)
    plan, score = lambda epoch: [(dataset, rows) for rows in batches], lambda epoch: {}
    fit(Objective(model, build("finetune")), plan, score, len(batches), settings, setup("cpu"), Silent())
    print(f"{'ε and dropout':28} new head   after one epoch")
    for (name, settings), first in zip(ROWS, start):
        print(f"{name:28} {first:8.1e}   {share(model, dataset, batches[:8], settings):8.1e}", flush=True)


if __name__ == "__main__":
    main()

"""How much information the [CLS] states of neighbouring layers share, measured in several ways.

    python -m benchmarks.cls_information --model $MODEL --data $DATA --task rte

The estimators of the option `mine` are fitted as its first stage fits them: to states of the pretrained model with
dropout or without, projected to 16 dimensions or not. Printed are estimates for three pairs of layers, in nats: mean ±
standard deviation over batches of 32, with all pairs of examples. No estimate can exceed log 32.

"held out" is the tenth of the batches on which the fit was stopped. The other rows are the examples of the fit: the
states of its last pass, and new passes. Fine-tuning starts at "new pass with dropout".
"""

import itertools
import math
from functools import partial

import torch

from benchmarks.common import make_parser
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from regularizers.estimators import Estimators
from regularizers.first_stage import DRAWS, draw, fit, standardise
from regularizers.mine import Mine
from regularizers.mutual_information import SMALLEST_BATCH


@torch.no_grad()
def describe(estimators: Estimators, batches: list[torch.Tensor], chosen: list[int]) -> str:
    """Mean ± standard deviation over the batches, for each chosen pair of layers."""
    values = torch.stack([estimators(states) for states in batches])
    return "  ".join(f"{values[:, i].mean():6.2f} ± {values[:, i].std():.2f}" for i in chosen)


def without_held_out(batches: list[torch.Tensor]) -> list[torch.Tensor]:
    """The batches of the fit: every tenth is held out."""
    return [states for number, states in enumerate(batches) if number % 10]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="rte")
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    task = TASKS[args.task]
    dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 256)
    batches = [dataset.collate(rows) for rows in dataset.shuffled(args.batch_size, seed=0, epoch=0)]
    batches = [batch for batch in batches if len(batch) >= SMALLEST_BATCH]  # as the first stage does
    torch.manual_seed(0)
    model = SentenceModel(BertModel.from_pretrained(args.model), [task])

    def record(dropout: bool) -> list[torch.Tensor]:
        with torch.no_grad():
            return [Mine().states(model.train(dropout)(batch), batch) for batch in batches]

    with_dropout, new, without = [record(True) for _ in range(DRAWS)], record(True), record(False)
    chosen = [0, (len(model.bert.layers) - 1) // 2, len(model.bert.layers) - 2]
    print(f"log {args.batch_size} = {math.log(args.batch_size):.3f}; pairs {[f'{i + 1}-{i + 2}' for i in chosen]}")
    for proj_dim, (kind, passes) in itertools.product(
        (16, None), (("with dropout", with_dropout), ("without dropout", [without]))
    ):
        torch.manual_seed(0)
        method = Mine(proj_dim=proj_dim)
        method.attach(model)
        estimators = method.estimators[task.name]
        next_pass = partial(next, itertools.cycle(passes))
        standardise(estimators, next_pass)
        draws = draw(estimators, next_pass)
        fit(estimators, draws, method.optimizer)
        seen = passes[len(draws) % len(passes)]  # the last of the fit, which has fewer passes over many examples
        print(f"proj_dim={proj_dim}, fitted to states {kind}")
        rows = {
            "held out": seen[::10],
            "the examples and states of the fit": without_held_out(seen),
            "new pass with dropout": without_held_out(new),
            "new pass without": without_held_out(without),
        }
        for name, states in rows.items():
            print(f"  {name:36}{describe(estimators, states, chosen)}", flush=True)


if __name__ == "__main__":
    main()

"""How much information the [CLS] states of adjacent layers share, by protocol.

    python -m benchmarks.cls_information --model $MODEL --data $DATA --task rte

The estimators of the option `mine` are fitted as it fits them, to states of the pretrained model with dropout and to
states without, projected to 16 dimensions and not. In nats, mean ± standard deviation over batches of 32 with all
pairs of examples, for three pairs of layers; no estimate can exceed log 32. "Held out" is the tenth of the batches
that stopped the fit, in the states of the fit: the reference. The others are the examples of the fit, in the states
of the fit and in passes of their own: fine-tuning starts at "new pass with dropout".
"""

import itertools
import math

import torch

from benchmarks.common import parser
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from regularizers.mine import Mine, cls_states
from regularizers.mutual_information import DRAWS, first_stage


class Recorded:
    """A model whose outputs are recorded states, pass after pass."""

    def __init__(self, passes: list[list[torch.Tensor]]):
        self.states = itertools.chain.from_iterable(itertools.cycle(passes))

    def train(self) -> None:
        """They stay as they were recorded."""

    def __call__(self, batch) -> torch.Tensor:
        return next(self.states)


@torch.no_grad()
def describe(estimators, batches: list[torch.Tensor], chosen: list[int]) -> str:
    values = torch.stack([estimators(h) for h in batches])
    return "  ".join(f"{values[:, i].mean():6.2f} ± {values[:, i].std():.2f}" for i in chosen)


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--task", default="rte")
    flags.add_argument("--batch-size", type=int, default=32)
    args = flags.parse_args()
    task = TASKS[args.task]
    dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 256)
    batches = [dataset.collate(rows) for rows in dataset.shuffled(args.batch_size, 0, 0)]
    torch.manual_seed(0)
    model = SentenceModel(BertModel.from_pretrained(args.model), [task])

    def record(dropout: bool) -> list[torch.Tensor]:
        with torch.no_grad():
            return [cls_states(model.train(dropout)(batch), batch) for batch in batches]

    with_dropout, new, without = [record(True) for _ in range(DRAWS)], record(True), record(False)
    chosen = [0, (len(model.bert.layers) - 1) // 2, len(model.bert.layers) - 2]
    print(f"log {args.batch_size} = {math.log(args.batch_size):.3f}; pairs {[f'{i + 1}-{i + 2}' for i in chosen]}")
    for proj_dim, (kind, passes) in itertools.product(
        (16, None), (("with dropout", with_dropout), ("without dropout", [without]))
    ):
        torch.manual_seed(0)
        method = Mine(proj_dim=proj_dim)
        method.attach(model)
        first_stage("mine", method.estimators, Recorded(passes), lambda: batches, lambda h, _: h, method.phi_lr)
        print(f"proj_dim={proj_dim}, fitted to states {kind}")
        held_out, fitted, fresh, plain = passes[0][::10], passes[0], new, without
        rows = {"held out": held_out, "the examples and states of the fit": fitted}
        rows |= {"new pass with dropout": fresh, "new pass without": plain}
        for name, states in rows.items():
            own = states if name == "held out" else [h for k, h in enumerate(states) if k % 10]
            print(f"  {name:36}{describe(method.estimators[task.name], own, chosen)}", flush=True)


if __name__ == "__main__":
    main()

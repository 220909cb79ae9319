"""The same training twice, step by step: our losses, and those of transformers' model with torch's AdamW.

    python -m benchmarks.same_training --model $MODEL --data $DATA          # needs transformers

RTE, batch 32, max-length 256, float32, dropout 0, the same head, batches and recipe. Adam's ε is 1e-12 here: our AdamW
and torch's put it in different places, and that is the one intended difference (see minbert/optimizer.py).
"""

import torch

from benchmarks.common import FixedSteps, make_parser, no_scores
from benchmarks.peer import peer_model, peer_train
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import Objective, fit
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from regularizers import build

STEPS, LR, EPS = 60, 2e-5, 1e-12


class Recorder(Objective):
    """An objective that keeps the task loss of each step."""

    def __init__(self, model, method):
        super().__init__(model, method)
        self.losses = []

    def forward(self, batch):
        loss, terms = super().forward(batch)
        self.losses.append(terms["task"].item())
        return loss, terms


def main() -> None:
    parser = make_parser(__doc__)
    args = parser.parse_args()
    task = TASKS["rte"]
    dataset = Dataset(task, read_examples(task, args.data, "train"), load_tokenizer(args.model), 256)
    batches = dataset.shuffled(32, seed=0, epoch=0)[:STEPS]

    torch.manual_seed(0)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = SentenceModel(BertModel.from_pretrained(args.model, **no_dropout), [task])
    peer = peer_model(args.model, task.outputs, **no_dropout)
    peer.classifier.load_state_dict(model.heads["rte"].state_dict())

    objective = Recorder(model, build("finetune"))
    settings = Settings(lr=LR, warmup=0.1, adam_eps=EPS)
    with setup("cpu", "fp32") as runtime:
        fit(objective, FixedSteps(dataset, batches), no_scores, settings, runtime)
    ours = objective.losses
    theirs = peer_train(peer, dataset, batches, LR, EPS, precision="fp32")
    for step in (0, 1, 9, 29, 59):
        print(f"step {step + 1:2}: minbert {ours[step]:.7f}  transformers {theirs[step]:.7f}")
    print(f"largest difference of {STEPS} losses: {max(abs(a - b) for a, b in zip(ours, theirs)):.1e}")


if __name__ == "__main__":
    main()

"""GLUE scores compared with transformers, five seeds of each: same batches, same recipe (lr 5e-5, batch 32, 3 epochs).

    python -m benchmarks.glue_scores --model $MODEL --data $DATA --tasks mrpc cola stsb     # needs transformers

Our score comes from a run of train.py. The peer is transformers' model with torch.optim.AdamW, in bf16 autocast, on the
same batches. Its dropout masks and its first head differ. Each score is printed as soon as it is known, and at the end
the mean and the standard deviation (n - 1) over the seeds.
"""

import statistics

import torch

from benchmarks.common import make_parser, train_run
from benchmarks.peer import peer_model, peer_predict, peer_train
from minbert import metrics
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.task import Task
from minbert.tokenizer import load_tokenizer

LR, EPOCHS = 5e-5, 3


def peer_scores(args, name: str, seed: int) -> float:
    task, tokenizer = TASKS[name], load_tokenizer(args.model)
    splits = ("train", *task.splits("dev"))  # MNLI has two dev sets
    train, *dev_sets = (Dataset(task, read_examples(task, args.data, s), tokenizer, 256) for s in splits)
    batches = [rows for epoch in range(1, EPOCHS + 1) for rows in train.shuffled(32, seed, epoch)]
    torch.manual_seed(seed)
    model = peer_model(args.model, task.outputs)
    peer_train(model, train, batches, LR, 1e-6, precision="bf16")
    return statistics.mean(dev_score(model, task, dev) for dev in dev_sets)


def dev_score(model, task: Task, dev: Dataset) -> float:
    predictions = metrics.predictions_from_logits(task, peer_predict(model, dev, precision="bf16"))
    return metrics.score(task, metrics.compute_metrics(task, predictions, dev.labels.numpy()))


def our_scores(args, name: str, seed: int) -> float:
    recipe = ["--lr", LR, "--epochs", EPOCHS, "--seed", seed, "--batch-size", 32, "--precision", "bf16"]
    return train_run("--task", name, "--model", args.model, "--data", args.data, *recipe)["score"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "cola", "stsb"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    args = parser.parse_args()
    for name in args.tasks:
        scores = {"minbert": [], "transformers": []}
        for seed in args.seeds:
            for who, compute in (("minbert", our_scores), ("transformers", peer_scores)):
                scores[who].append(compute(args, name, seed))
                print(f"{name} seed {seed}  {who:12} {scores[who][-1]:.4f}", flush=True)
        for who, values in scores.items():
            spread = f", standard deviation {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            print(f"{name} {who:12} mean {statistics.mean(values):.4f}{spread}", flush=True)


if __name__ == "__main__":
    main()

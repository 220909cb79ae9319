"""GLUE scores compared with transformers: the same batches and recipe (lr 5e-5, batch 32, 3 epochs), one seed.

    python -m benchmarks.glue_scores --model $MODEL --data $DATA --tasks mrpc cola stsb     # needs transformers

Our score comes from a run of train.py. The peer is transformers' model with torch.optim.AdamW, in bf16 autocast, on the
same batches. Each score is printed as soon as it is known.
"""

import torch

from benchmarks.common import make_parser, train_run
from benchmarks.peer import peer_model, peer_predict, peer_train
from minbert import metrics
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer

LR, EPOCHS = 5e-5, 3


def peer_scores(args, name: str) -> dict:
    task, tokenizer = TASKS[name], load_tokenizer(args.model)
    train, dev = (Dataset(task, read_examples(task, args.data, s), tokenizer, 256) for s in ("train", "dev"))
    batches = [rows for epoch in range(1, EPOCHS + 1) for rows in train.shuffled(32, args.seed, epoch)]
    torch.manual_seed(args.seed)
    model = peer_model(args.model, task.outputs)
    peer_train(model, train, batches, LR, 1e-6, bf16=True)
    predictions = metrics.predictions_from_logits(task, peer_predict(model, dev, bf16=True))
    values = metrics.compute_metrics(task, predictions, dev.labels.numpy())
    return {"score": metrics.score(task, values), "metrics": values}


def our_scores(args, name: str) -> dict:
    recipe = ["--lr", LR, "--epochs", EPOCHS, "--seed", args.seed]
    return train_run("--task", name, "--model", args.model, "--data", args.data, *recipe)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "cola", "stsb"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.tasks:
        for who, score in (("minbert", our_scores), ("transformers", peer_scores)):
            result = score(args, name)
            values = ", ".join(f"{k} {v:.4f}" for k, v in result["metrics"].items())
            print(f"{name} seed {args.seed}  {who:12} score {result['score']:.4f}  ({values})", flush=True)


if __name__ == "__main__":
    main()

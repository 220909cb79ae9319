"""Examples per second of three tasks trained together, compared with each task alone.

    python -m benchmarks.multitask_speed --model $MODEL --data $COURSE            # five minutes on an idle machine

Five rounds in one process: sst5, quora and sts alone, then together, on the same examples. The expected speed is the
mean of the three, weighted by the time that each takes alone: all examples / Σ (examples of a task / its speed).
"""

import statistics

import torch

from benchmarks.common import make_parser, no_scores
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples, subset
from minbert.data.sampling import TaskBatchSampler
from minbert.data.task_file import choose_tasks
from minbert.tokenizer import load_tokenizer
from minbert.training.loop import Objective, fit
from minbert.training.runtime import setup
from minbert.training.settings import MultitaskSettings
from regularizers import build

ROUNDS, EXAMPLES = 5, 640  # of each task


class Bench:
    """Tasks on a model of their own, ready for an epoch."""

    def __init__(self, args, datasets: list[Dataset]):
        torch.manual_seed(0)
        self.settings = MultitaskSettings(lr=1e-5, epochs=1, data_seed=0, warmup=0.0)
        self.sampler = TaskBatchSampler(datasets, "proportional", self.settings.batch_size, seed=0, epochs=1)
        self.runtime = setup("cpu")
        model = SentenceModel(BertModel.from_pretrained(args.model), [dataset.task for dataset in datasets])
        method = build(args.option)
        method.attach(model)
        self.objective = Objective(model, method)

    def speed(self) -> float:
        """Examples per second."""
        totals, _ = fit(self.objective, self.sampler, no_scores, self.settings, self.runtime)
        return totals["examples_per_second"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--option", default="finetune")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.model)
    datasets = [
        Dataset(task, subset(read_examples(task, args.data, "train"), EXAMPLES), tokenizer, 256)
        for task in choose_tasks(["sst5", "quora", "sts"])
    ]
    alone, together = [Bench(args, [dataset]) for dataset in datasets], Bench(args, datasets)
    for bench in (*alone, together):
        bench.speed()  # the first steps allocate memory
    ratios = []
    print("| round | SST-5 | Quora | STS | expected | together | ratio |\n|---|---|---|---|---|---|---|", flush=True)
    for number in range(1, ROUNDS + 1):
        speeds = [bench.speed() for bench in alone]
        expected = sum(map(len, datasets)) / sum(len(dataset) / speed for dataset, speed in zip(datasets, speeds))
        speed = together.speed()
        ratios.append(speed / expected)
        cells = " | ".join(f"{value:.0f}" for value in (*speeds, expected, speed))
        print(f"| {number} | {cells} | {ratios[-1]:.2f} |", flush=True)
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()

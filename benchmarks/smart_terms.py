"""What each term of SMART does to a regression: the score, and the mean and the spread of the predictions.

    python -m benchmarks.smart_terms --task stsb                                                  # the embedded sample
    python -m benchmarks.smart_terms --model $MODEL --data $DATA --task stsb --train-size 3000 --lr 1e-4 --epochs 1

Besides plain fine-tuning and SMART with one term or both there are three controls:

    constant target 0     μ (f - 0)² in place of the proximal term: the target of a teacher that has learned nothing
    constant target mean  μ (f - m)², m the mean label of the training set: a target that halves the spread only
    start at mean         plain fine-tuning, with the mean label as the first bias of the head

Printed are dev score, mean squared error, and the predictions' mean and standard deviation, each as mean ± standard
deviation over the seeds.
"""

import torch
from torch import Tensor

from benchmarks.laboratory import Laboratory, make_parser, spread
from minbert.classifier import Output, SentenceModel
from minbert.losses import squared_error
from minbert.task import Batch
from regularizers import build
from regularizers.base import Method, Sum


class ConstantTarget(Method):
    """Pull every prediction to one number, with μ = 1."""

    def __init__(self, target: float):
        super().__init__()
        self.target = target

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        return {"target": squared_error(clean.logits, torch.full_like(clean.logits, self.target))}


class StartAt(Method):
    """Set the bias of the head before training."""

    def __init__(self, start: float):
        super().__init__()
        self.start = start

    def attach(self, model: SentenceModel) -> None:
        for head in model.heads.values():
            torch.nn.init.constant_(head.bias, self.start)


ROWS = {  # name -> the settings of SMART
    "plain": ("weight=0", "mu=0"),
    "smoothness alone": ("mu=0",),
    "the paper's teacher alone": ("weight=0", "beta=0.99,0.999"),
    "both, the paper's teacher": ("beta=0.99,0.999",),
    "a teacher that never moves, alone": ("weight=0", "beta=1,1"),
    "half-life 0.1, alone": ("weight=0", "half_life=0.1"),
    "half-life 0.05, alone": ("weight=0", "half_life=0.05"),
    "half-life 0.05, both": ("half_life=0.05",),
    "the paper's teacher, mu=0.1, alone": ("weight=0", "mu=0.1", "beta=0.99,0.999"),
}


def methods(mean_label: float) -> dict:
    """name -> a function that makes the method of a row"""
    rows = {name: lambda s=settings: build("smart", [f"smart.{text}" for text in s]) for name, settings in ROWS.items()}
    return rows | {
        "constant target 0": lambda: Sum({"target": ConstantTarget(0.0)}),
        "constant target mean": lambda: Sum({"target": ConstantTarget(mean_label)}),
        "start at mean": lambda: Sum({"start": StartAt(mean_label)}),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", nargs="+", help="names of rows; all of them by default")
    args = parser.parse_args()
    laboratory = Laboratory(args)
    rows = methods(laboratory.train.labels.mean().item())
    print("| setting | dev score | mean squared error | predictions, mean | predictions, sd | θ₀ in teacher |")
    print("|---" * 6 + "|")
    for name in args.rows or rows:
        values = []
        for seed in args.seeds:
            method = rows[name]()
            _, scores = laboratory.fine_tune(method, seed)
            r, start = scores["regression"], method.report().get("smart.start_in_teacher", float("nan"))
            values.append((scores["score"], r["mean_squared_error"], r["prediction_mean"], r["prediction_std"], start))
        print(f"| {name} | {' | '.join(map(spread, zip(*values)))} |", flush=True)
    print(f"labels: {r['label_mean']:.2f} ± {r['label_std']:.2f}")


if __name__ == "__main__":
    main()

"""Sentiment, paraphrase and similarity with one encoder: dev scores of several options.

    python -m benchmarks.multitask_scores --model $MODEL --data $COURSE                       # an epoch of each
    python -m benchmarks.multitask_scores --model $MODEL --data $COURSE --options finetune --epochs 3
    python -m benchmarks.multitask_scores --model $MODEL --data $COURSE --options finetune -- --pairs separate

Unless --lr says otherwise, lr 5e-5, and their own for `frozen` and `adapter`; batch 32. What comes after -- goes to
multitask.py. Every score is a line of its own as soon as it is there.
"""

from benchmarks.common import parser, train_run
from regularizers import build

OPTIONS = ("finetune", "smart", "adapter", "lhuc", "pal", "smart+adapter")


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--options", nargs="+", default=OPTIONS)
    flags.add_argument("--epochs", type=int, default=1)
    flags.add_argument("--lr", type=float)
    flags.add_argument("--seeds", type=int, nargs="+", default=[0])
    flags.add_argument("more", nargs="*", help="flags of multitask.py, after --")
    args = flags.parse_args()
    print(
        "| option | epochs | seed | SST-5 | Quora | STS | average | lr | trained | added |\n" + "|---" * 10 + "|",
        flush=True,
    )
    for option in args.options:
        rate = args.lr or build(option).lr or 5e-5
        for seed in args.seeds:
            result = train_run(
                "--option", option, "--model", args.model, "--data", args.data, "--epochs", args.epochs,
                "--lr", rate, "--seed", seed, *args.more, program="multitask.py",
            )  # fmt: skip
            scores = " | ".join(f"{result['metrics'][task]:.4f}" for task in ("sst5", "quora", "sts"))
            sizes = f"{result['trainable_parameters']:,} | {result['added_parameters']:,}"
            print(
                f"| {option} | {args.epochs} | {seed} | {scores} | {result['score']:.4f} | {rate:g} | {sizes} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Sentiment, paraphrase and similarity with one encoder: dev scores of several options.

    python -m benchmarks.multitask_scores --model $MODEL --data $COURSE                       # an epoch of each
    python -m benchmarks.multitask_scores --model $MODEL --data $COURSE --options finetune --epochs 3
    python -m benchmarks.multitask_scores --model $MODEL --data $COURSE --options finetune -- --pairs separate

Without --lr an option has its own learning rate, or 5e-5 if it has none; batch 32. The flags after -- go to
multitask.py. Each score is printed as soon as it is known.
"""

from benchmarks.common import make_parser, train_run
from regularizers import build

OPTIONS = ("finetune", "smart", "adapter", "lhuc", "pal", "smart+adapter")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--options", nargs="+", default=OPTIONS)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("more", nargs="*", help="flags of multitask.py, after --")
    args = parser.parse_args()
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

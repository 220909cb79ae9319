"""Every option on one task with a real model: one epoch, one seed.

    python -m benchmarks.option_scores --model $MODEL --data $DATA                     # STS-B
    python -m benchmarks.option_scores --model $MODEL --data $DATA --options lnsr smart+l2sp --seed 1

The learning rate is 5e-5, except for the options that have their own. Each score is printed as soon as it is known.
"""

from benchmarks.common import make_parser, train_run
from regularizers import OPTIONS, build


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="stsb")
    parser.add_argument("--options", nargs="+", default=list(OPTIONS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| option | score | metrics | lr | trained parameters | examples/s |\n|---|---|---|---|---|---|", flush=True)
    for option in args.options:
        method = build(option)
        rate = method.lr or 5e-5
        result = train_run(
            "--task", args.task, "--option", option, "--model", args.model, "--data", args.data, "--lr", rate,
            "--epochs", 1, "--seed", args.seed,
        )  # fmt: skip
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())
        speed = f"{result['examples_per_second']:.0f} in {'fp32' if method.fp32 else 'bf16'}"
        trained = f"{result['trainable_parameters']:,}"
        print(f"| {option} | {result['score']:.4f} | {metrics} | {rate:g} | {trained} | {speed} |", flush=True)


if __name__ == "__main__":
    main()

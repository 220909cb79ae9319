"""Every option on one task with a real model, three seeds of each; SMART also with each of its terms alone.

    python -m benchmarks.option_scores --model $MODEL --data $DATA                     # STS-B
    python -m benchmarks.option_scores --model $MODEL --data $DATA --rows lnsr "smart smart.mu=0" --seeds 3 4

One epoch over 3,000 examples, batch size 16, learning rate 1e-4, except for the options that have their own. A row is
printed as soon as it is known: mean ± standard deviation (n - 1) of the dev score, and for a regression of the mean
squared error and of the predictions' mean and standard deviation. Matrix products are in bf16 where the option allows
it and the processor can, else in float32.
"""

from benchmarks.common import make_parser, train_run
from benchmarks.laboratory import spread
from regularizers import OPTIONS, build

TERMS = ("smart smart.mu=0", "smart smart.weight=0", "smart smart.beta=0.99,0.999")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="stsb")
    parser.add_argument("--rows", nargs="+", default=[*OPTIONS, *TERMS], help="an option, and its settings after it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-size", type=int, default=3000)
    args = parser.parse_args()
    print("| option | score | mean squared error | predictions, mean | sd | learning rate | trained parameters |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in args.rows:
        option, *settings = row.split()
        rate, values = build(option).lr or 1e-4, []
        for seed in args.seeds:
            result = train_run(
                "--task", args.task, "--option", option, *(["--set", *settings] if settings else []), "--model",
                args.model, "--data", args.data, "--train-size", args.train_size, "--batch-size", 16, "--lr", rate,
                "--epochs", 1, "--seed", seed,
            )  # fmt: skip
            found = result.get("regression", {})
            names = ("mean_squared_error", "prediction_mean", "prediction_std")
            values.append((result["score"], *(found.get(name, 0.0) for name in names)))
        numbers = " | ".join(map(spread, zip(*values)))
        print(f"| {row} | {numbers} | {rate:g} | {result['trainable_parameters']:,} |", flush=True)


if __name__ == "__main__":
    main()

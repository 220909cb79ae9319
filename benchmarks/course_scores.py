"""The course's two sentiment tasks, single-task: the head alone (its "pretrain") and everything.

    python -m benchmarks.course_scores --model $MODEL --data $COURSE            # about half an hour on two cores

Frozen at the course's rate and length, 1e-3 and 10 epochs; everything at 5e-5 and 3 epochs, as in glue_scores.
Every score is a line of its own as soon as it is there.
"""

from benchmarks.common import parser, train_run

RECIPES = {"frozen": ("--lr", 1e-3, "--epochs", 10), "finetune": ("--lr", 5e-5, "--epochs", 3)}
MAX_LENGTH = {"sst5": 256, "cfimdb": 512}  # tokens; the reviews of cfimdb are long


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--tasks", nargs="+", default=list(MAX_LENGTH), choices=list(MAX_LENGTH))
    flags.add_argument("--options", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    flags.add_argument("--seed", type=int, default=0)
    args = flags.parse_args()
    for task in args.tasks:
        for option in args.options:
            result = train_run(
                "--task", task, "--option", option, "--model", args.model, "--data", args.data,
                "--max-length", MAX_LENGTH[task], "--seed", args.seed, *RECIPES[option],
            )  # fmt: skip
            print(
                f"{task} {option:8} seed {args.seed}  accuracy {result['score']:.4f}"
                f"  (majority {result['majority']['accuracy']:.4f}, {result['seconds']:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""The course's two sentiment tasks, each trained alone: only the head (the course's "pretrain"), and everything.

    python -m benchmarks.course_scores --model $MODEL --data $COURSE            # about half an hour on two cores

The head alone has the course's learning rate and length, 1e-3 and 10 epochs; everything has 5e-5 and 3 epochs, as in
glue_scores. Each score is printed as soon as it is known.
"""

from benchmarks.common import make_parser, train_run

RECIPES = {"frozen": ("--lr", 1e-3, "--epochs", 10), "finetune": ("--lr", 5e-5, "--epochs", 3)}
MAX_LENGTH = {"sst5": 256, "cfimdb": 512}  # tokens; the reviews of cfimdb are long


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(MAX_LENGTH), choices=list(MAX_LENGTH))
    parser.add_argument("--options", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
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

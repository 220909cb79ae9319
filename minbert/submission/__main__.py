"""Check prediction files for what a grader would reject, or pack them for the GLUE leaderboard or a course.

    python -m minbert.submission check DIR [--data DATA] [--complete]
    python -m minbert.submission zip DIR [--data DATA] [--out FILE]

Both compare the rows with the ids and sentences of DATA. Without --data they take the data of the run if DIR is a run
folder, else what is known of the published files. check prints a line for each problem. zip refuses the files that
check refuses. It fills each missing file of the leaderboard with a constant answer.

Exit status 0: a grader would accept the files; 1: a grader would reject them; 2: bad usage.
"""

import argparse
import sys
from pathlib import Path

from minbert.command_line import Parser, run_program
from minbert.submission.check import check_predictions
from minbert.submission.pack import pack_predictions


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Raises InputError for flags that are unknown or have no effect."""
    parser = Parser("python -m minbert.submission", description=__doc__)
    parser.add_argument("command", choices=("check", "zip"))
    parser.add_argument("folder", metavar="DIR", type=Path, help="a run folder, or a folder with prediction files")
    parser.add_argument("--data", type=Path, help="folder of the tasks' files, as for train.py")
    parser.add_argument("--complete", action="store_true", help="check: require all files that are handed in together")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="zip: the file to write (default submission.zip, in the run folder if DIR is one)",
    )
    args = parser.parse_args(argv)
    if args.command == "check" and args.out:
        parser.error("--out has no effect with check: only zip writes a file")
    if args.command == "zip" and args.complete:
        parser.error("--complete has no effect with zip: it fills the missing files")
    return args


def main(argv: list[str]) -> int:
    return run_program("minbert.submission", lambda: check_or_pack(parse_arguments(argv)))


def check_or_pack(args: argparse.Namespace) -> int:
    """Do what the command says. Returns the exit status."""
    report = check_predictions(args.folder, args.data, args.complete)
    if args.command == "check" or report.problems:
        print(report)
        return 1 if report.problems else 0
    is_run = (args.folder / "settings.json").exists()
    out = args.out or (args.folder if is_run else Path()) / "submission.zip"
    print(*pack_predictions(args.folder, out, args.data), out, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Pictures, tables and the worst mistakes of runs, as one page.

python -m minbert.report RUN                       # RUN is a run folder; the page is RUN/report/report.html
python -m minbert.report RUN RUN ...               # several runs in one picture: report-out/report.html
python -m minbert.report RUN --follow              # redraws while the run trains
python -m minbert.report RUN --tensorboard DIR     # writes event files for TensorBoard instead

A run that is not finished has its learning curves only. docs/report.md says what is in a report.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from minbert.command_line import Parser, at_least, is_utf8
from minbert.errors import InputError, reason
from minbert.report.events import EventFiles
from minbert.report.reported_run import ReportedRun, read_runs
from minbert.report.requirements import check_libraries
from minbert.training.runtime import choose_device

MISTAKES, SECONDS = 20, 5.0  # the defaults of --mistakes and --every


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit status."""
    try:
        args = make_parser().parse_args(argv)
        check_arguments(args)
        runs = read_runs(args.runs, args.data)
        if args.tensorboard:
            write_events(runs, args)
        else:
            write_page(runs, args, shlex.join(["python", "-m", "minbert.report", *argv]))
    except InputError as error:
        print(f"minbert.report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        flag, folder = ("--tensorboard", args.tensorboard) if args.tensorboard else ("--out", out_folder(args))
        print(f"minbert.report: {flag} {folder} cannot be written: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minbert.report: interrupted", file=sys.stderr)
        return 130
    return 0


def make_parser() -> Parser:
    parser = Parser("python -m minbert.report", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run folder")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="for the files (default RUN/report; for several runs report-out)"
    )
    parser.add_argument("--mistakes", metavar="N", type=at_least(0), help=f"how many to list (default {MISTAKES})")
    parser.add_argument("--data", metavar="DIR", type=Path, help="where the data are now, if they were moved")
    parser.add_device_flag()
    parser.add_argument("--follow", action="store_true", help="redraw while a run trains, until it is finished")
    parser.add_argument(
        "--every", metavar="SECONDS", type=seconds, help=f"time between two looks at the logs (default {SECONDS:g})"
    )
    parser.add_argument("--tensorboard", metavar="DIR", type=Path, help="write event files instead of pictures")
    return parser


def seconds(text: str) -> float:
    number = float(text)
    if not 0.1 <= number <= 86400:
        raise argparse.ArgumentTypeError(f"must be from 0.1 to 86400 seconds, not {text}")
    return number


def check_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for flags that contradict each other, and for a missing library."""
    if not all(is_utf8(str(path)) for path in (*args.runs, args.out or "", args.tensorboard or "")):
        raise InputError("a path is not UTF-8")
    if args.every is not None and not args.follow:
        raise InputError("--every has no effect without --follow")
    if args.tensorboard:
        for name in ("out", "mistakes", "data"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name} has no effect with --tensorboard")
    else:
        check_libraries("matplotlib")


def out_folder(args: argparse.Namespace) -> Path:
    """Where the report goes: into the run's folder, or for several runs into one of its own."""
    return args.out or (args.runs[0] / "report" if len(args.runs) == 1 else Path("report-out"))


def write_events(runs: dict[str, ReportedRun], args: argparse.Namespace) -> None:
    """Write the event files."""
    with EventFiles(runs, args.tensorboard) as events:
        watch(runs, args, lambda reload_seconds: events.write())
    print(f"{events.points} points: {args.tensorboard}")


def write_page(runs: dict[str, ReportedRun], args: argparse.Namespace, command: str) -> None:
    """Write the report, and print its files."""
    from minbert.report.page import Report  # it imports matplotlib, which may be missing where events are written

    mistakes = MISTAKES if args.mistakes is None else args.mistakes
    report, start = Report(runs, out_folder(args), mistakes, choose_device(args.device), command), time.perf_counter()
    files: list[Path] = []

    def write(reload_seconds: float | None) -> None:
        if reload_seconds is not None and not files:
            print(f"follows the run in {report.page}; Ctrl-C ends this program", flush=True)
        files[:] = report.write(reload_seconds)

    watch(runs, args, write)
    for note in report.notes:
        print(f"note: {note}")
    *others, page = files
    took = "" if args.follow else f"  {time.perf_counter() - start:.1f} s"
    print(f"{'  '.join(str(path.relative_to(page.parent)) for path in others)}\n{page}{took}")


def watch(
    runs: dict[str, ReportedRun],
    args: argparse.Namespace,
    write: Callable[[float | None], object],
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Call `write` once; with --follow again whenever a run has changed, until all runs are finished.

    While they go on, `write` gets the number of seconds after which a page may be out of date. Raises InputError if a
    run's folder is removed meanwhile.
    """
    every = SECONDS if args.every is None else args.every
    before = None
    while True:
        now = [(len(run.log), len(run.history), run.state) for run in runs.values()]
        goes_on = args.follow and not all(run.is_finished for run in runs.values())
        if now != before:
            write(every if goes_on else None)
        if not goes_on:
            return
        before = now
        sleep(every)
        for run in runs.values():
            run.refresh()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

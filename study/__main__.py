"""Train methods x tasks x seeds, and report what the scores say.

python -m study sample/study.toml                                     # on the embedded sample
python -m study papers/lnsr/table1.toml --model bert-large-uncased --data glue --jobs 2
python -m study FILE --list                                           # the runs, their states, the time left
python -m study FILE --shard 3/8                                      # the third eighth of the runs, on any machine

Run the same command again to continue a study that was stopped. docs/studies.md has the format of the file.
"""

import argparse
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

from minbert.command_line import Parser, escape_unknown_characters, is_utf8, positive
from minbert.errors import InputError, Interrupted
from minbert.report.requirements import check_libraries
from minbert.training.inputs import Inputs
from minbert.training.runtime import choose_device, setup
from minbert.training.signals import Signals, write_line
from minbert.weights import weight_files
from regularizers import build
from study.folder import ERROR, StudyFolder
from study.live import ProgressDisplay
from study.plan import Run, Study, choose_shard, load_study
from study.pool import Pool
from study.study_file import Overrides


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit status."""
    escape_unknown_characters()
    try:
        args = make_parser().parse_args(argv)
        if args.out == "":
            raise InputError("--out is empty")
        if not is_utf8(args.out or ""):  # the report could not hold it
            raise InputError("--out is not UTF-8")
        study = load_study(args.file, read_overrides(args))
        folder = StudyFolder(Path(args.out or f"studies-out/{study.name}"))
        folder.check(study.runs)
        runs = choose_shard(study.runs, *args.shard)
        signals = Signals()
        display = ProgressDisplay(runs, folder, args.jobs, signals.output_closed)
        if args.list:
            print_list(display)
            return 0
        check_libraries("scipy", "matplotlib")
        if not args.report:
            check_inputs(runs)
            folder.create()
            train_runs(runs, folder, display, signals)
        return report(study, folder, repeat_command(argv))
    except Interrupted as stop:
        write_line("stopped; run the same command again to continue")
        return stop.status
    except KeyboardInterrupt:
        write_line("study: interrupted", sys.stderr)
        return 130
    except (InputError, OSError) as error:
        write_line(f"study: {error}", sys.stderr)
        return 2


def make_parser() -> Parser:
    parser = Parser(prog="python -m study", description=__doc__)
    parser.add_argument("file", type=Path, help="the study file")
    parser.add_argument("--out", help="folder of the study (default studies-out/NAME)")
    parser.add_argument("--model", help="train this model in all runs: a folder or a hub name")
    parser.add_argument("--data", help="folder with the tasks' files")
    parser.add_argument("--tasks", nargs="+", default=[], help="these tasks instead of the file's")
    parser.add_argument("--methods", nargs="+", default=[], help="only these methods of the file")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], help="5: the seeds 0 to 4; 3 7: the seeds 3 and 7")
    parser.add_argument("--set", nargs="+", action="extend", default=[], dest="settings", metavar="KEY=VALUE",
                        help="settings of all runs: epochs=1 lr=[1e-5,2e-5] smart.eps=1e-3")  # fmt: skip
    parser.add_argument("--jobs", type=positive, default=1, help="number of runs to train at the same time (default 1)")
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="K/N", help="train the K-th of N parts")
    parser.add_argument("--report", action="store_true", help="train nothing, and report the runs that are finished")
    parser.add_argument("--list", action="store_true", help="show the runs and their states, and train nothing")
    return parser


def shard(text: str) -> tuple[int, int]:
    """3/8 -> (3, 8)"""
    part, count = map(int, text.split("/"))
    if not 1 <= part <= count:
        raise ValueError
    return part, count


def read_overrides(args: argparse.Namespace) -> Overrides:
    """What the command line changes in the file."""
    folders = {name: getattr(args, name) for name in ("model", "data") if getattr(args, name) is not None}
    return Overrides(tuple(args.tasks), tuple(args.methods), tuple(args.seeds), tuple(args.settings), folders)


def repeat_command(argv: list[str]) -> str:
    """The command that repeats the whole study: without --shard and --report."""
    words = iter(argv)
    kept = [word for word in words if not (word == "--shard" and next(words)) and not word.startswith("--shard=")]
    return shlex.join(["python", "-m", "study", *(word for word in kept if word != "--report")])


def print_list(display: ProgressDisplay) -> None:
    """A line for each run, then the number of runs in each state."""
    for run in display.runs:
        error = f": {display.folder.error(run)}" if display.states[run.name] == ERROR else ""
        print(f"{display.states[run.name]:8}  {run.name}{error}")
    states = Counter(display.states.values())
    print(", ".join(f"{count} {state}" for state, count in states.items()) + f"; {display.time_left()}")


def check_inputs(runs: list[Run]) -> None:
    """Read all data, and check all models and devices, before the first run starts. Raises InputError."""
    inputs, models, machines = Inputs(), set(), set()
    for run in runs:
        settings, tasks = run.settings, run.settings.chosen_tasks
        method = build(settings.option, settings.method_settings)
        machine = settings.device, settings.precision, method.fp32
        try:
            for task in tasks:
                inputs.examples(task, settings)  # reads each file once
            inputs.check_model(tasks, settings)
            if settings.model not in models:
                weight_files(inputs.model_folder(settings))
            if machine not in machines:
                setup(*machine)
        except InputError as error:
            raise InputError(f"method {run.method} on {run.task}: {error}") from None
        models.add(settings.model)
        machines.add(machine)


def train_runs(runs: list[Run], folder: StudyFolder, display: ProgressDisplay, signals: Signals) -> None:
    """Train the runs that are not finished. Raises Interrupted after a signal."""
    jobs = display.jobs
    on_cpu = all(choose_device(run.settings.device).type == "cpu" for run in runs)
    threads = max(1, cpu_count() // jobs) if on_cpu and jobs > 1 else None
    Pool(folder, jobs, threads, display.run_ended, display.refresh, signals).train(runs)


def report(study: Study, folder: StudyFolder, command: str) -> int:
    """Write the report of all runs that are finished, and print its path. Returns the exit status: 1 after errors."""
    # scipy and matplotlib are imported here: --list works without them, and the workers start sooner.
    from study.collect import describe_study, load_rows, make_cells
    from study.report import write_report

    rows = load_rows(study, folder)
    cells = make_cells(study, rows)
    errors = [(run.name, folder.error(run)) for run in study.runs if folder.state(run) == ERROR]
    write_report(folder.path, describe_study(study, rows, cells, errors, command), cells)
    failed = sum(row.failed for row in rows.values())
    counts = f"{len(rows)} of {len(study.runs)} runs finished, {failed} failed, {len(errors)} with an error"
    print(f"{counts}  {folder.path / 'report.md'}")
    return 1 if errors else 0


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Download the published files of tasks, and check them.

    python -m minbert.download rte mrpc --to glue
    python -m minbert.download sst5 sts --to course

`glue` stands for its nine tasks, `course` for the four tasks of CS224N's minBERT project. A second call downloads only
the files that are missing, and continues a download that broke off.
"""

import sys
from pathlib import Path

from minbert.command_line import Parser
from minbert.data.tasks import COURSE, GLUE, TASKS
from minbert.download.fetch import is_web_address
from minbert.download.sources import download_source, sources_of
from minbert.errors import InputError, escape, shorten
from minbert.task import Task

GROUPS = {"glue": GLUE, "course": COURSE}


def parse_arguments(argv: list[str]) -> tuple[list[Task], Path, str | None]:
    """-> (the tasks, each once; the folder; the mirror's address or None). Raises InputError."""
    parser = Parser(prog="minbert.download", description=__doc__)
    names = [*TASKS, *GROUPS]
    parser.add_argument("tasks", nargs="+", choices=names, metavar="task", help=" ".join(names))
    parser.add_argument("--to", required=True, type=Path, help="folder for the files: later the --data of train.py")
    parser.add_argument("--from", dest="mirror", metavar="URL", help="a mirror that has all the files in one folder")
    args = parser.parse_args(argv)
    if args.mirror is not None and not is_web_address(args.mirror):
        raise InputError(f"--from must be an http or https address, not {args.mirror!r}")
    tasks = [task for name in args.tasks for task in GROUPS.get(name, [TASKS.get(name)])]
    return list(dict.fromkeys(tasks)), args.to, args.mirror


def main(argv: list[str]) -> int:
    """Download all that can be downloaded, and name the rest. Returns the exit status."""
    status = 0
    try:
        tasks, data, mirror = parse_arguments(argv)
        data.mkdir(parents=True, exist_ok=True)
        for source in (source for task in tasks for source in sources_of(task)):
            try:
                download_source(source, data, mirror)
            except InputError as error:  # the other sources may work
                report(error)
                status = 2
    except KeyboardInterrupt:
        report("interrupted; run the same command again to continue")
        return 130
    except (InputError, OSError) as error:
        report(error)
        return 2
    return status


def report(message: object) -> None:
    print(f"minbert.download: {escape(shorten(str(message)))}", file=sys.stderr)  # it may quote what a server sent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

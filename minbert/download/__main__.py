"""Fetch the published files of tasks, and check that they are whole.

    python -m minbert.download rte mrpc --to glue
    python -m minbert.download sst5 sts --to course

`glue` stands for its nine tasks, `course` for the four of CS224N's minBERT project. A second call fetches what is
missing, and goes on where a broken one stopped.
"""

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from minbert.command_line import Parser
from minbert.data.readers import read_examples
from minbert.data.tasks import COURSE, GLUE, ROWS, TASKS
from minbert.download.fetch import BLOCK, discard, fetch
from minbert.errors import InputError
from minbert.task import Task

GROUPS = {"glue": GLUE, "course": COURSE}
ARCHIVES = "https://dl.fbaipublicfiles.com/glue/data/"  # one for each task, called after its folder, but for these:
RENAMED = {"qqp": "QQP-clean.zip", "qnli": "QNLIv2.zip"}
MRPC = (  # GLUE may not pass on the corpus itself, only which of its training pairs are dev's
    "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_train.txt",
    "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_test.txt",
    ARCHIVES + "mrpc_dev_ids.tsv",
)
COURSE_FILES = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data/"
GLUE_HOME = "https://gluebenchmark.com/tasks"
COURSE_HOME = "https://web.stanford.edu/class/cs224n/project/default-final-project-bert-handout.pdf"
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError)  # KeyError: no such member


@dataclass(frozen=True)
class Parcel:
    """What is fetched together, and whose files appear together."""

    task: Task
    files: tuple[tuple[str, str], ...]  # of task.files
    urls: tuple[str, ...]
    make: Callable[[Task, list[Path], Path], None]  # what came from the urls -> the files, in an empty folder


def parcels(task: Task) -> list[Parcel]:
    """GLUE's tasks come whole, the course's file by file."""
    if task in COURSE:
        return [Parcel(task, (pair,), (COURSE_FILES + pair[1],), keep) for pair in task.files]
    if task.name == "mrpc":
        return [Parcel(task, task.files, MRPC, split_mrpc)]
    return [Parcel(task, task.files, (ARCHIVES + RENAMED.get(task.name, f"{task.folder}.zip"),), unzip)]


def obtain(parcel: Parcel, to: Path, mirror: str | None = None) -> None:
    """Put those of the parcel's files that are missing below the folder `to`: all of them, checked, or none.

    Raises InputError naming the file: not to be had, damaged, or not of the published number of records;
    ConnectionError for the network's faults, OSError for the disk's: after these two the next call goes on.
    """
    home = to / parcel.task.folder
    missing = [(split, file) for split, file in parcel.files if not (home / file).exists()]
    for split, file in parcel.files:
        if (split, file) not in missing:
            print(f"{home / file}: already there, {check_own(parcel.task, to, split)} records")
    if missing:
        bring(parcel, missing, to, mirror)


def bring(parcel: Parcel, missing: list[tuple[str, str]], to: Path, mirror: str | None) -> None:
    task, home = parcel.task, to / parcel.task.folder
    parts = [to / f"{url.rpartition('/')[2]}.part" for url in parcel.urls]
    try:
        for url, part in zip(parcel.urls, parts):
            get(f"{mirror.rstrip('/')}/{part.stem}" if mirror else url, part, task)
        with tempfile.TemporaryDirectory(prefix=".", dir=to) as staging:
            counts = make(parcel, parts, missing, Path(staging))
            home.mkdir(exist_ok=True)
            for (_, file), count in zip(missing, counts):
                os.replace(Path(staging) / task.folder / file, home / file)
                print(f"{home / file}: {count} records", flush=True)
    except InputError:
        discard(*parts)  # or the next call would go on with what is wrong
        raise
    discard(*parts)


def get(url: str, part: Path, task: Task) -> None:
    print(f"{url} ...", flush=True)
    try:
        fetch(url, part)
    except InputError as error:
        raise InputError(f"{error}; look for it at {COURSE_HOME if task in COURSE else GLUE_HOME}") from None


def make(parcel: Parcel, parts: list[Path], wanted: list[tuple[str, str]], staging: Path) -> list[int]:
    """Make the parcel's files below `staging`; return how many records the wanted ones hold."""
    folder = staging / parcel.task.folder
    folder.mkdir(exist_ok=True)
    try:
        parcel.make(parcel.task, parts, folder)
        return [check(parcel.task, staging, split) for split, _ in wanted]
    except InputError as error:
        names = ", ".join(part.stem for part in parts)
        raise InputError(f"{names}: {str(error).replace(f'{staging}{os.sep}', '')}") from None


# What came -> a task's files.


def unzip(task: Task, parts: list[Path], folder: Path) -> None:
    """Members by their exact names: whatever else an archive holds is not looked at."""
    try:
        with zipfile.ZipFile(parts[0]) as archive:
            for _, file in task.files:
                with archive.open(f"{task.folder}/{file}") as member, (folder / file).open("wb") as out:
                    shutil.copyfileobj(member, out, BLOCK)
    except DAMAGED as error:
        raise InputError(f"damaged: {error.args[0] if error.args else type(error).__name__}") from None


def split_mrpc(task: Task, parts: list[Path], folder: Path) -> None:
    """Byte for byte GLUE's files: train and dev keep the corpus's lines; test has a number instead of the label."""
    train, dev, test = (folder / file for _, file in task.files)
    with parts[2].open("rb") as lines:
        dev_ids = {tuple(line.split()) for line in lines}
    with parts[0].open("rb") as lines, train.open("wb") as train_out, dev.open("wb") as dev_out:
        header = lines.readline()
        train_out.write(header)
        dev_out.write(header)
        for line in lines:
            (dev_out if tuple(line.split(b"\t")[1:3]) in dev_ids else train_out).write(line)
    with parts[1].open("rb") as lines, test.open("wb") as test_out:
        for number, line in enumerate(lines, start=-1):  # the header is no example
            test_out.write((b"%d" % number if number >= 0 else b"index") + b"\t" + line.partition(b"\t")[2])


def keep(task: Task, parts: list[Path], folder: Path) -> None:
    os.replace(parts[0], folder / parts[0].stem)


# Is it whole?


def check(task: Task, data: Path, split: str) -> int:
    """Read a file as training will; return its number of records, those left out included.

    Raises InputError as the reader does, and for another number than the published one.
    """
    examples = read_examples(task, data, split)
    whole, count = len(examples.rows), len(examples.rows) + len(examples.left_out)
    published = ROWS[task.name].get(split, count)
    if not whole <= published <= count:  # some counts leave out broken records, of which a line feed makes two
        raise InputError(f"{examples.path} holds {count} records instead of {published}")
    return count


def check_own(task: Task, data: Path, split: str) -> int:
    """A file that was there before may be the user's own work: it is never replaced."""
    try:
        return check(task, data, split)
    except InputError as error:
        raise InputError(f"{error}; delete it to fetch it anew") from None


# The command line.


def parse(argv: list[str]) -> tuple[list[Task], Path, str | None]:
    parser = Parser(prog="minbert.download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*TASKS, *GROUPS]
    parser.add_argument("tasks", nargs="+", choices=names, metavar="task", help=" ".join(names))
    parser.add_argument("--to", required=True, type=Path, help="folder for the files, later train.py's --data")
    parser.add_argument("--from", dest="mirror", metavar="URL", help="a mirror: the same files, in one folder")
    args = parser.parse_args(argv)
    if args.mirror is not None and not is_web_address(args.mirror):
        raise InputError(f"--from must be an http or https address, not {args.mirror!r}")
    tasks = [task for name in args.tasks for task in GROUPS.get(name, [TASKS.get(name)])]
    return list(dict.fromkeys(tasks)), args.to, args.mirror


def is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isascii()
    except ValueError:  # of brackets, or of the port
        return False


def download(tasks: list[Task], to: Path, mirror: str | None) -> int:
    """What cannot be had is named, and the rest is fetched. Returns the exit status."""
    to.mkdir(parents=True, exist_ok=True)
    status = 0
    for task in tasks:
        for parcel in parcels(task):
            try:
                obtain(parcel, to, mirror)
            except InputError as error:
                complain(error)
                status = 2
    return status


def main(argv: list[str]) -> int:
    try:
        return download(*parse(argv))
    except KeyboardInterrupt:
        complain("interrupted: the same command goes on from here")
        return 130
    except (InputError, OSError) as error:
        complain(error)
        return 2


def complain(error) -> None:
    print(f"minbert.download: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

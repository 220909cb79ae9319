"""Where the published files of each task are, and how they are made from what is downloaded."""

import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from minbert.data.readers import read_examples
from minbert.data.tasks import COURSE, ROWS
from minbert.download.checksums import check_checksum, published_size
from minbert.download.fetch import BLOCK, LARGEST, check_own, download_file
from minbert.errors import InputError
from minbert.files import rename
from minbert.task import Task

# GLUE has one archive for each task, named after the task's folder, with two exceptions.
GLUE_URL = "https://dl.fbaipublicfiles.com/glue/data/"
GLUE_ARCHIVES = {"qqp": "QQP-clean.zip", "qnli": "QNLIv2.zip"}
GLUE_PAGE = "https://gluebenchmark.com/tasks"
# GLUE may not redistribute the MRPC corpus. It publishes only the ids of the training pairs that form its dev set.
MRPC_URLS = (
    "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_train.txt",
    "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_test.txt",
    GLUE_URL + "mrpc_dev_ids.tsv",
)
COURSE_URL = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data/"
COURSE_PAGE = "https://web.stanford.edu/class/cs224n/project/default-final-project-bert-handout.pdf"
STAGING = "staging-"  # the files are built in a folder whose name begins so
# What zipfile raises for a damaged archive. KeyError: the archive lacks a file.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Source:
    """Files of one task that are made from the same downloads, and appear together."""

    task: Task
    files: tuple[tuple[str, str], ...]  # (split, file name): all of task.files, or one of them
    urls: tuple[str, ...]
    build: Callable[[Task, list[Path], Path], None]  # (task, downloads, empty folder): write the files there
    page: str  # a web page for people, named in the message when this source fails


def sources_of(task: Task) -> list[Source]:
    """The files of a GLUE task come from one source, each file of a course's task from its own."""
    if task in COURSE:
        return [Source(task, (item,), (COURSE_URL + item[1],), move, COURSE_PAGE) for item in task.files]
    if task.name == "mrpc":
        return [Source(task, task.files, MRPC_URLS, split_mrpc, GLUE_PAGE)]
    archive = GLUE_ARCHIVES.get(task.name, f"{task.folder}.zip")
    return [Source(task, task.files, (GLUE_URL + archive,), unzip, GLUE_PAGE)]


def download_source(source: Source, data: Path, mirror: str | None = None) -> None:
    """Download the missing files of `source` into the folder `data`: all of them, checked, or none.

    Raises InputError that names a file: its download was refused, it is damaged, or it has not the published checksum
    or number of records. Raises ConnectionError for the network and OSError for the disk: the next call continues after
    these two.
    """
    missing = []
    partial = data / f"{file_name(source.urls[0])}.part"  # a folder for the downloads, until the files are in place
    check_own(partial)
    for split, file in source.files:
        path = data / source.task.folder / file
        if not path.exists():
            missing.append((split, file))
            continue
        try:  # it may be the user's own work, so it is never replaced
            count = check_file(source.task, data, split)
            check_checksum(path, path)
            print(f"{path}: already there, {count} records")
        except InputError as error:
            raise InputError(f"{error}; to download it again, delete it first") from None
    if not missing:
        shutil.rmtree(partial, ignore_errors=True)  # of a call that was killed when all files were in place
        return
    partial.mkdir(exist_ok=True)
    for folder in partial.glob(f"{STAGING}*"):  # of calls that were killed
        shutil.rmtree(folder)
    try:
        for url in source.urls:
            address = f"{mirror.rstrip('/')}/{file_name(url)}" if mirror else url
            print(f"{address} ...", flush=True)
            download_file(address, partial / file_name(url), published_size(file_name(url)))
            check_checksum(partial / file_name(url), address)
        install_files(source, missing, partial, data)
    except InputError as error:
        shutil.rmtree(partial)  # or the next call would continue with a wrong file
        raise InputError(f"{error}; the official page is {source.page}") from None
    shutil.rmtree(partial)


def file_name(url: str) -> str:
    return url.rpartition("/")[2]


def install_files(source: Source, missing: list[tuple[str, str]], partial: Path, data: Path) -> None:
    """Build the files in a temporary folder, check all missing ones, and only then move them to their places."""
    task, downloads = source.task, [partial / file_name(url) for url in source.urls]
    # The temporary folder is on the disk of `data`: there a file moves in one step, or not at all.
    with tempfile.TemporaryDirectory(dir=partial, prefix=STAGING) as name:
        staging = Path(name)
        (staging / task.folder).mkdir(exist_ok=True)
        try:
            source.build(task, downloads, staging / task.folder)
            counts = [check_file(task, staging, split) for split, _ in missing]
        except InputError as error:
            names = ", ".join(path.name for path in downloads)
            raise InputError(f"{names}: {str(error).replace(f'{staging}{os.sep}', '')}") from None
        (data / task.folder).mkdir(exist_ok=True)
        for (_, file), count in zip(missing, counts):
            rename(staging / task.folder / file, data / task.folder / file)
            print(f"{data / task.folder / file}: {count} records", flush=True)


def check_file(task: Task, data: Path, split: str) -> int:
    """Read a file as training reads it. Return its number of records, those without a label included.

    Raises InputError as the reader does, and if the number is not the published one.
    """
    examples = read_examples(task, data, split)
    complete, count = len(examples.rows), len(examples.rows) + len(examples.left_out)
    published = ROWS[task.name].get(split, count)
    # Some published counts leave out broken records, and a line end inside a record breaks it into two.
    if not complete <= published <= count:
        raise InputError(f"{examples.path} holds {count} records instead of {published}")
    return count


# The three values of Source.build.


def unzip(task: Task, downloads: list[Path], folder: Path) -> None:
    """Read only the members with the exact names of the task's files. Other members are ignored."""
    try:
        with zipfile.ZipFile(downloads[0]) as archive:
            for _, file in task.files:
                member = archive.getinfo(f"{task.folder}/{file}")
                # A block of the other methods can unpack to any size at once.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{member.filename!r} is compressed in an unusual way")
                with archive.open(member) as content, (folder / file).open("wb") as out:
                    copy_within(LARGEST, content, out, member.filename)
    except ZIP_ERRORS as error:
        raise InputError(f"damaged: {error.args[0] if error.args else type(error).__name__}") from None


def copy_within(most: int, content: IO[bytes], out: IO[bytes], name: str) -> None:
    """Copy the content. Raises ValueError above `most` bytes: the size that the archive declares is not trusted."""
    while block := content.read(BLOCK):
        if out.tell() + len(block) > most:
            raise ValueError(f"{name!r} unpacks to more than {most} bytes")
        out.write(block)


def split_mrpc(task: Task, downloads: list[Path], folder: Path) -> None:
    """GLUE's files, byte for byte: train and dev have the corpus's lines; test has an index instead of the label."""
    train, dev, test = (folder / file for _, file in task.files)
    with downloads[2].open("rb") as lines:
        dev_ids = {tuple(line.split()) for line in lines}
    with downloads[0].open("rb") as lines, train.open("wb") as train_out, dev.open("wb") as dev_out:
        header = lines.readline()
        train_out.write(header)
        dev_out.write(header)
        for line in lines:
            is_dev = tuple(line.split(b"\t")[1:3]) in dev_ids
            (dev_out if is_dev else train_out).write(line)
    with downloads[1].open("rb") as lines, test.open("wb") as test_out:
        test_out.write(b"index\t" + lines.readline().partition(b"\t")[2])
        for index, line in enumerate(lines):
            test_out.write(b"%d\t" % index + line.partition(b"\t")[2])


def move(task: Task, downloads: list[Path], folder: Path) -> None:
    os.replace(downloads[0], folder / downloads[0].name)

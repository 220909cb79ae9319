"""The published files: how many records are read, and whether predictions for them pass `minbert.submission check`.

    python -m benchmarks.real_files --data $DATA --course $COURSE

--data is a folder of GLUE's files, --course one of CS224N's. Each may hold only some of the tasks. Random logits are
written as predictions for each file, and compared with the published counts and with the data. Then the files are
damaged in ten ways, and the messages of the check are printed.
"""

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from minbert.data.predictions import write_predictions
from minbert.data.readers import read_file
from minbert.data.tasks import COURSE, GLUE, ROWS
from minbert.submission import check_predictions


def read_all(folder: str, tasks) -> list[tuple]:
    """(task, split, examples) of every file that exists."""
    files = [(task, split, path) for task in tasks for split, _ in task.files for path in task.paths(folder, split)]
    return [(task, split, read_file(task, path, split)) for task, split, path in files if path.exists()]


def show_counts(read: list[tuple]) -> None:
    for task, split, examples in read:
        published = ROWS[task.name].get(split, "-")
        unlabelled = len(examples.left_out)
        count = len(examples.rows) + unlabelled
        print(f"{task.name:6} {split:5} {count:6} records, published {published:>6}, without a label {unlabelled}")


def write_random_predictions(read: list[tuple], folder: Path) -> Path:
    """Predictions from random logits for every dev and test file. Returns the folder of the files."""
    random = np.random.default_rng(0)
    for task, split, examples in read:
        if split != "train":
            dataset = SimpleNamespace(task=task, path=examples.path, examples=examples.rows)
            logits = 3 * random.standard_normal((len(examples.rows), task.outputs), np.float32)
            write_predictions(folder, dataset, split, logits)
    return folder / "predictions"


def show_check(folder: Path, data: str | None) -> None:
    report = check_predictions(folder, data and Path(data))
    against = "the data" if data else "the published counts"
    print(f"\n{', '.join(path.name for path in report.files)}")
    reasons = (problem.replace(f"{folder}/", "") for problem in report.problems)
    print(f"against {against}: {'; '.join(reasons) or 'accepted'}")


# damage -> (file, lines of the file -> damaged lines)
DAMAGE = {
    "no header": ("RTE.tsv", lambda lines: lines[1:]),
    "a row too few": ("CoLA.tsv", lambda lines: lines[:-1]),
    "a row twice": ("MRPC.tsv", lambda lines: [*lines, lines[-1]]),
    "two rows swapped": ("SST-2.tsv", lambda lines: [*lines[:-2], lines[-1], lines[-2]]),
    "class numbers for names": ("RTE.tsv", lambda lines: [*lines[:-1], lines[-1].split("\t")[0] + "\t1"]),
    "a score of 5.01": ("STS-B.tsv", lambda lines: [*lines[:-1], lines[-1].split("\t")[0] + "\t5.01"]),
    "a score that is NaN": ("sts-test-output.csv", lambda lines: [*lines[:-1], lines[-1].split(" , ")[0] + " , nan "]),
    "tabs in a course's rows": ("sts-test-output.csv", lambda lines: [*lines[:-1], lines[-1].replace(" , ", "\t")]),
    "a sixth class": ("finetune-sst-test-out.csv", lambda lines: [*lines[:-1], lines[-1].split(" , ")[0] + " , 5 "]),
    "an empty file": ("finetune-cfimdb-test-out.csv", lambda lines: []),
}


def show_damage(folders: list[Path]) -> None:
    print()
    for title, (name, damage) in DAMAGE.items():
        for source in (folder / name for folder in folders if (folder / name).exists()):
            with tempfile.TemporaryDirectory() as folder:
                lines = damage(source.read_text(encoding="utf-8").splitlines())
                (Path(folder) / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
                reasons = [problem.replace(f"{folder}/", "") for problem in check_predictions(Path(folder)).problems]
                print(f"{title}: {'; '.join(reasons) or 'PASSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--course", required=True)
    args = parser.parse_args()
    glue, course = read_all(args.data, GLUE), read_all(args.course, COURSE)
    show_counts(glue + course)
    with tempfile.TemporaryDirectory() as folder:
        to_glue = write_random_predictions(glue, Path(folder)) / "test"
        to_course = write_random_predictions(course, Path(folder))
        for data in (None, args.data):
            show_check(to_glue, data)
        for data in (None, args.course):
            show_check(to_course, data)
        show_damage([to_glue, to_course])


if __name__ == "__main__":
    main()

"""Mistakes at the command line of multitask.py: one line, exit status 2, and nothing left behind."""

import pytest

import multitask
import train


def remove(name):
    return lambda data: (data / name).unlink()


def rename_column(name, column):
    return lambda data: (data / name).write_text((data / name).read_text().replace(column, "other", 1))


MISTAKES = {
    "a task without training data": (
        remove("quora-train.csv"), [],
        "{data}/quora-paraphrase-train.csv exists; --data must name the folder that holds the tasks' files. "
        "This file is not published: it comes with the course's project",
    ),
    "a file in place of the folder": (
        None, ["--data", "{data}/sts-dev.csv"], "exists; {data}/sts-dev.csv is a file, but --data must name the folder"
    ),
    "a training set without rows": (
        lambda data: (data / "sts-train.csv").write_text("\tid\tsentence1\tsentence2\tsimilarity\n"), [],
        "{data}/sts-train.csv has no rows",
    ),
    "a task twice": (None, ["--tasks", "sts", "sst5", "sts"], "--tasks names sts twice"),
    "an unknown task": (None, ["--tasks", "sst6"], "'sst6' is not a task; did you mean sst5?"),
    "no task": (None, ["--tasks"], "argument --tasks: expected at least one argument"),
    "an unknown sampling": (None, ["--sampling", "cubic"], "argument --sampling: invalid choice: 'cubic'"),
    "a weight of no task": (None, ["--task-weights", "sts5=2"], "'sts5' is not one of the tasks sst5, quora, sts"),
    "a weight of another task": (
        None, ["--tasks", "sts", "--task-weights", "sst5=2"], "'sst5' is not one of the tasks sts"
    ),
    "a weight without a number": (None, ["--task-weights", "sts"], "a weight must be a number above 0, as in sts=0.5"),
    "a weight of 0": (None, ["--task-weights", "sts=0"], "--task-weights sts=0: a weight must be a number above 0"),
    "a weight without end": (None, ["--task-weights", "sts=inf"], "--task-weights sts=inf: a weight must be a number"),
    "two weights": (None, ["--task-weights", "sts=1", "sts=2"], "--task-weights gives sts two weights"),
    "a label column that is missing": (
        rename_column("sts-train.csv", "similarity"), [], "{data}/sts-train.csv has no column 'similarity'"
    ),
    "a label column of the dev set": (
        rename_column("quora-dev.csv", "is_duplicate"), [], "{data}/quora-dev.csv has no column 'is_duplicate'"
    ),
    "an unknown way of pairs": (None, ["--pairs", "apart"], "argument --pairs: invalid choice: 'apart'"),
    "keeping the worst": (None, ["--keep", "worst"], "argument --keep: invalid choice: 'worst'"),
    "train.py's flag": (None, ["--task", "sts"], "unrecognized arguments: --task sts; did you mean --tasks?"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(flags, course, tmp_path, capsys, name):
    damage, more, message = MISTAKES[name]
    data = tmp_path / "data"
    data.mkdir()
    for path in course.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    if damage:
        damage(data)
    assert (
        multitask.main([*flags, "--max-steps", "1", "--data", str(data), *(flag.format(data=data) for flag in more)])
        == 2
    )
    out, errors = capsys.readouterr()
    assert message.format(data=data) in errors
    assert errors.startswith("multitask.py: ") and errors.count("\n") == 1 and out == ""
    assert not (tmp_path / "run").exists()


def test_train_py_refuses_to_resume_a_run_of_multitask_py(flags, tmp_path, capsys):
    assert multitask.main([*flags, "--max-steps", "1"]) == 0
    (tmp_path / "run" / "metrics.json").unlink()
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert f"multitask.py made this run: python multitask.py --resume {tmp_path / 'run'}" in capsys.readouterr().err

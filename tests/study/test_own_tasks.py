"""A study of tasks of the user's own."""

import json

import pytest

from minbert.errors import InputError
from study.__main__ import main
from study.plan import load_study
from study.study_file import Overrides

TASK = 'name = "reviews"\ntrain = "train.csv"\ndev = "dev.csv"\ntext = ["review"]\nlabel = "stars"\n'
TASK += 'labels = ["bad", "good"]\nmetrics = ["accuracy", "f1"]\n'
STUDY = """task_files = ["data/reviews.toml"]
tasks = ["reviews", "reviews+rte"]
seeds = 2
compare_with = "plain"
[settings]
model = "{model}"
data = "{data}"
max-steps = 2
batch-size = 4
max-length = 32
device = "cpu"
[score]
reviews = "f1"
[methods.plain]
[methods.frozen]
option = "frozen"
"""


@pytest.fixture
def study_file(tmp_path, model_folder, data_folder):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "reviews.toml").write_text(TASK, encoding="utf-8")
    rows = [f"{'red' if i % 2 else 'green'} cat,{'good' if i % 2 else 'bad'}" for i in range(12)]
    for split in ("train", "dev"):
        (folder / f"{split}.csv").write_text("\n".join(["review,stars", *rows, ""]), encoding="utf-8")
    path = tmp_path / "study.toml"
    text = STUDY.format(model=model_folder, data=data_folder).replace('"reviews", "reviews+rte"', '"reviews"')
    path.write_text(text, encoding="utf-8")
    return path


def test_a_study_of_a_task_file_runs_from_any_folder_and_reports_it(study_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    out = tmp_path / "out"
    assert main([str(study_file), "--out", str(out)]) == 0
    assert "4 of 4 runs finished" in capsys.readouterr().out
    names = {path.name for path in (out / "runs").iterdir()}
    assert names == {f"reviews-{method}-seed{seed}" for method in ("plain", "frozen") for seed in (0, 1)}
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "reviews" in report
    cells = json.loads((out / "summary.json").read_text(encoding="utf-8"))["cells"]
    assert {cell["task"] for cell in cells} == {"reviews"}
    assert main([str(study_file), "--out", str(out), "--list"]) == 0  # the finished runs are recognised
    assert "4 finished" in capsys.readouterr().out


def test_several_tasks_may_have_one_of_the_users_own(study_file):
    text = study_file.read_text(encoding="utf-8").replace('tasks = ["reviews"]', 'tasks = ["reviews+rte"]')
    study_file.write_text(text, encoding="utf-8")
    study = load_study(study_file, Overrides(seeds=(1,)))
    assert [run.settings.task_names for run in study.runs] == [("reviews", "rte")] * 2
    assert study.runs[0].name == "reviews+rte-plain-seed0"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('["data/reviews.toml"]', '"data/reviews.toml"', "task_files must be a list"),
        ('["data/reviews.toml"]', '["data/none.toml"]', r"none\.toml does not exist"),
        (
            '["data/reviews.toml"]',
            '["data/reviews.toml", "data/reviews.toml"]',
            "two files have a task of the same name",
        ),
        ('tasks = ["reviews"]', 'tasks = ["review"]', "'review' is not a task; the tasks are .*reviews"),
        ('reviews = "f1"', 'reviews = "mcc"', "reviews has the metrics accuracy, f1, not 'mcc'"),
    ],
)
def test_a_mistake_is_named(study_file, old, new, message):
    text = study_file.read_text(encoding="utf-8")
    assert old in text
    study_file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_study(study_file, Overrides())

"""study/collect.py: from run folders to rows, cells and the facts about the study."""

import csv
import json
from pathlib import Path

import pytest
from support.study_cells import markdown_tables

import sample
from study.collect import describe_study, load_rows, make_cells
from study.curves import score_curve
from study.folder import StudyFolder
from study.plan import Study, load_study
from study.report import write_report
from study.results import StudyInfo
from study.study_file import Overrides

pytestmark = pytest.mark.filterwarnings("error")

SEVERAL = """
tasks = ["rte", "mrpc+sts"]
seeds = 2
[score]
mrpc = "f1"
[methods.plain]
"""

METHODS = """
tasks = ["rte", "mrpc"]
seeds = 2
[settings]
model = "models/paper-model"
lr = [1e-5, 2e-5]
epochs = 3
device = "cpu"
[settings.mrpc]
batch-size = 16
[methods.plain]
option = "finetune"
[methods.smart]
option = "smart"
set = ["smart.eps=1e-3"]
clip = [0.5, 1.0]
[paper.smart.rte]
mean = 70.0
"""


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> None:
    """Models of several names, all the sample's, below the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("models/paper-model", "elsewhere/paper-model", "tiny", "a", "b", "c"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to(Path(sample.__file__).resolve().parent / "tiny-bert")


def load(folder: Path, text: str, **overrides) -> Study:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, Overrides(**overrides))


def scores_of(accuracy: float, **tasks: dict) -> dict:
    """The scores of one split. The F1 differs from the accuracy and from the score."""
    values = {"score": accuracy, "metrics": {"accuracy": accuracy, "f1": accuracy / 2}, "failed": False, "failure": ""}
    return values | ({"tasks": tasks, "metrics": {name: of["score"] for name, of in tasks.items()}} if tasks else {})


def finish_runs(study: Study, folder: StudyFolder) -> None:
    """The files of finished runs with two epochs. Each seed was trained on another machine."""
    for run in study.runs:
        path, seed = folder.run_folder(run), run.settings.seed
        history = []
        for epoch in (1, 2):
            score = 0.5 + 0.1 * epoch + 0.01 * seed
            tasks = {name: scores_of(score + 0.05) for name in run.settings.names} if "+" in run.task else {}
            history.append({"epoch": epoch, "dev": scores_of(score, **tasks)})
        values = {"kept_epoch": 2, "history": history, "train_loss": 0.5, "seconds": 2.0, "majority": 0.5}
        values |= history[-1]["dev"]
        path.mkdir(parents=True)
        (path / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
        precision, torch = [("fp32", "2.12.0"), ("bf16", "2.13.0")][seed]
        machine = {
            "device_name": "x",
            "device": "cpu",
            "threads": 1,
            "precision": precision,
            "versions": {"torch": torch},
        }
        (path / "settings.json").write_text(json.dumps(machine), encoding="utf-8")


def describe(study: Study) -> StudyInfo:
    """The facts before any run has finished."""
    return describe_study(study, {}, make_cells(study, {}), [], "")


def test_a_metric_replaces_the_score_of_a_task_in_its_history_too(tmp_path):
    study, folder = load(tmp_path, SEVERAL), StudyFolder(tmp_path / "out")
    finish_runs(study, folder)
    cells = make_cells(study, load_rows(study, folder))
    assert [cell.task for cell in cells] == ["rte", "mrpc+sts", "mrpc", "sts"]
    average, mrpc, sts = cells[1:]
    assert average.scores == pytest.approx([0.7, 0.71])
    assert sts.scores == pytest.approx([0.75, 0.76])
    assert mrpc.scores == pytest.approx([0.375, 0.38])  # F1
    for cell in cells:
        for row, score in zip(cell.rows, cell.scores, strict=True):
            curve = score_curve(row)
            assert list(curve) == [1, 2] and curve[2] == pytest.approx(100 * score)
    assert score_curve(mrpc.rows[0])[1] == pytest.approx(32.5)
    assert [cell.is_whole_run for cell in cells] == [True, True, False, False]


def test_versions_devices_and_precisions_are_those_of_all_runs(tmp_path):
    study, folder = load(tmp_path, SEVERAL), StudyFolder(tmp_path / "out")
    finish_runs(study, folder)
    rows = load_rows(study, folder)
    info = describe_study(study, rows, make_cells(study, rows), [], "")
    assert info.machine == {
        "torch": "2.12.0; 2.13.0",
        "device": "x (cpu, bf16, threads: 1); x (cpu, fp32, threads: 1)",
    }
    assert (info.runs_finished, info.seconds) == (4, 8.0)


def test_results_csv_names_folders_below_the_study(tmp_path):
    study, folder = load(tmp_path, SEVERAL), StudyFolder(tmp_path / "out")
    finish_runs(study, folder)
    rows = load_rows(study, folder)
    cells = make_cells(study, rows)
    write_report(folder.path, describe_study(study, rows, cells, [], ""), cells)
    with (folder.path / "results.csv").open(newline="", encoding="utf-8") as file:
        folders = [row["folder"] for row in csv.DictReader(file)]
    assert folders == [f"runs/{run.name}" for task in ("rte", "mrpc+sts") for run in study.runs if run.task == task]
    assert all((folder.path / name / "metrics.json").exists() for name in folders)
    names = [name for table in markdown_tables(folder.path) for row in table for name in row.values()]
    assert {"option", "finetune"} <= {*names, *markdown_tables(folder.path)[-3][0]}


def test_the_settings_of_each_method_are_those_that_not_all_runs_share(tmp_path):
    info = describe(load(tmp_path, METHODS))
    smart, plain = {"option": ["smart"], "set": [("smart.eps=1e-3",)]}, {"option": ["finetune"], "set": [()]}
    expected = {
        ("rte", "plain"): plain | {"batch-size": [32], "clip": [1.0]},
        ("rte", "smart"): smart | {"batch-size": [32], "clip": [0.5, 1.0]},
        ("mrpc", "plain"): plain | {"batch-size": [16], "clip": [1.0]},
        ("mrpc", "smart"): smart | {"batch-size": [16], "clip": [0.5, 1.0]},
    }
    assert info.method_settings == expected  # lr is in all tables of scores, because all methods have it in a grid
    assert info.settings["epochs"] == 3
    left_out = {"lr", "batch-size", "clip", "option", "set", "seed", "init-seed", "data-seed", "out", "device", "task"}
    assert not left_out & set(info.settings)


def test_option_and_hyper_parameters_are_shown_even_if_they_are_equal(tmp_path):
    info = describe(load(tmp_path, "[methods.plain]\n[methods.short]\nepochs = 1\n"))
    assert info.method_settings["rte", "plain"] == {"option": ["finetune"], "set": [()], "epochs": [3]}
    assert info.method_settings["rte", "short"] == {"option": ["finetune"], "set": [()], "epochs": [1]}
    assert "option" not in info.settings and "set" not in info.settings
    info = describe(load(tmp_path, "[methods.both]\noption = ['finetune', 'smart']\n"))
    assert info.method_settings == {("rte", "both"): {"option": ["finetune", "smart"], "set": [()]}}


def test_a_setting_of_one_program_is_unknown_in_the_other(tmp_path):
    info = describe(load(tmp_path, SEVERAL))
    assert "sampling" not in info.method_settings["rte", "plain"]
    assert len(info.method_settings["mrpc+sts", "plain"]["sampling"]) == 1
    assert "sampling" not in info.settings


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        ({}, ""),
        ({"settings": ("model=elsewhere/paper-model",)}, ""),
        ({"settings": ("model=tiny", "device=cpu", "data=x")},
         "The paper's numbers are for paper-model; this report is for tiny."),
        ({"settings": ("epochs=1", "smart.eps=1e-2")},
         "The command line sets epochs and smart.eps: the recipe may differ from the paper's."),
        ({"settings": ("model=tiny",), "tasks": ("mrpc",)}, ""),  # no number of the paper is shown
    ],
)  # fmt: skip
def test_a_note_says_how_the_runs_differ_from_the_papers(tmp_path, overrides, note):
    assert describe(load(tmp_path, METHODS, **overrides)).paper_note == note


def test_a_file_without_a_model_does_not_name_the_papers(tmp_path):
    text = METHODS.replace('model = "models/paper-model"\n', "")
    assert describe(load(tmp_path, text)).paper_note == (
        "The paper's numbers are for a model that the study file does not name; this report is for tiny-bert."
    )
    of_method = text.replace('option = "smart"', 'option = "smart"\nmodel = "a"').replace(
        'option = "finetune"', 'option = "finetune"\nmodel = ["b", "c"]'
    )
    assert describe(load(tmp_path, of_method)).paper_note == ""
    one_for_both = describe(load(tmp_path, of_method, settings=("model=b",))).paper_note
    assert one_for_both.startswith("The paper's numbers are for a; this report is for b.")
    of_task = METHODS.replace("batch-size = 16", 'model = "a"')
    assert describe(load(tmp_path, of_task)).paper_note == ""

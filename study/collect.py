"""From the run folders of a study to rows, from rows to cells, and the facts about the whole study."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minbert.data.predictions import read_predictions
from minbert.errors import InputError
from minbert.files import read_json_object
from minbert.report.formats import join
from minbert.training.settings import CommonSettings
from minbert.training.step_lines import is_number
from study.folder import FINISHED, NOT_COMPARED, ROOT, StudyFolder
from study.plan import Run, Study, merged_settings, settings_fields
from study.results import Cell, Numbers, Row, StudyInfo
from study.seed_effects import agreement
from study.study_file import StudyFile, scored_names

OF_A_METHOD = ("option", "set")  # settings that define a method: always shown with it


def load_rows(study: Study, folder: StudyFolder) -> dict[str, Row]:
    """{name of the run: row} of the finished runs. Raises InputError for a metrics.json that is damaged."""
    rows = {}
    for run in study.runs:
        if folder.state(run) == FINISHED:
            path, metrics, metric = folder.run_folder(run), folder.metrics(run), study.file.metrics.get(run.task)
            try:
                rows[run.name] = make_row(metrics, path, run.settings, run.task, run.method, run.point, metric)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise InputError(f"{path / 'metrics.json'} is not that of a run ({error!r}): delete {path}") from None
    return rows


def make_row(
    values: dict[str, Any],
    folder: Path,
    settings: CommonSettings,
    task: str,
    method: str,
    point: dict[str, Any] | None = None,
    metric: str | None = None,
) -> Row:
    """A row from a run's metrics.json. `metric` replaces the score of a run of train.py, in the history too."""
    history = [score_by(metric, epoch) for epoch in values["history"] or []]
    scored = next((epoch for epoch in history if epoch["epoch"] == values["kept_epoch"]), {})
    return Row(
        task=task,
        method=method,
        point=point or {},
        seed=settings.seed,
        init_seed=settings.init_seed,
        data_seed=settings.data_seed,
        score=finite(scored["dev"]["score"]) if scored else None,
        failed=values["failed"],
        failure=values["failure"],
        train_loss=values["train_loss"],
        train_score=scored["train"]["score"] if "train" in scored else None,
        seconds=values["seconds"],
        metrics=all_metrics(values),
        history=history,
        folder=folder,
        task_failures={task: result["failure"] for task, result in values.get("tasks", {}).items() if result["failed"]},
    )


def finite(score: float) -> float:
    """The score itself. Raises ValueError if it is not a finite number."""
    if not is_number(score):
        raise ValueError(f"score {score}")
    return score


def score_by(metric: str | None, epoch: dict[str, Any]) -> dict[str, Any]:
    """An entry of the history in which `metric`, if there is one, is the score of each split."""
    if metric is None:
        return epoch
    return {
        name: value if name == "epoch" else value | {"score": value["metrics"][metric]} for name, value in epoch.items()
    }


def all_metrics(values: dict[str, Any]) -> dict[str, float]:
    """The metrics of metrics.json. Of several tasks: each task's score, and each of its metrics as sst5.accuracy."""
    metrics = dict(values["metrics"] or {})
    for task, result in values.get("tasks", {}).items():
        metrics |= {f"{task}.{name}": value for name, value in (result["metrics"] or {}).items()}
    return metrics


def make_cells(study: Study, rows: dict[str, Row]) -> list[Cell]:
    """The cells of a study, in the order of tasks, methods and grid. A cell without a finished run is there, too."""
    runs_of: dict[tuple, list[Run]] = {}
    for run in study.runs:
        runs_of.setdefault(run.cell, []).append(run)
    tasks, methods = study.file.tasks, list(study.file.methods)
    ordered = sorted(runs_of, key=lambda cell: (tasks.index(cell[0]), methods.index(cell[1])))  # points stay in order
    return [
        make_cell(study, name, [rows[run.name] for run in runs_of[cell] if run.name in rows], runs_of[cell][0])
        for entry in tasks
        for name in scored_names(entry)
        for cell in ordered
        if cell[0] == entry
    ]


def make_cell(study: Study, name: str, rows: list[Row], run: Run) -> Cell:
    """The cell of what was scored under `name`: the run's task, the average of its tasks, or one of them."""
    if name != run.task:
        rows = [of_one_task(row, name, study.file.metrics.get(name)) for row in rows]
    paper = study.file.paper.get(run.method, {}).get(name, {})
    return Cell(name, run.method, run.point, rows, paper, measure_agreement(study.file, name, rows))


def of_one_task(row: Row, task: str, metric: str | None) -> Row:
    """A run of several tasks with score, history and failure of one of them. `metric` replaces the task's score."""
    if row.score is None:
        return row
    failure = row.task_failures.get(task, "")
    history = [
        {name: value if name == "epoch" else value["tasks"][task] for name, value in epoch.items()}
        for epoch in row.history
    ]
    return replace(
        row,
        score=row.metrics[f"{task}.{metric}" if metric else task],
        failed=bool(failure),
        failure=failure,
        history=[score_by(metric, epoch) for epoch in history],
    )


def measure_agreement(file: StudyFile, task: str, rows: list[Row]) -> Numbers | None:
    """How far the predictions of these runs agree. None for real values, and unless two runs have predictions."""
    if "+" in task or not file.task(task).labels:
        return None
    predictions = [read_predictions(row.folder, task, "dev") for row in rows]
    known = [values for values in predictions if values]
    if len({len(values) for values in known}) > 1:
        raise InputError(f"{rows[0].folder.parent}: the numbers of predictions of {task} differ between the runs")
    # Not every run keeps its predictions. The share on which all runs agree falls with their number.
    return {"runs": len(known)} | agreement(np.array(known)) if len(known) > 1 else None


def describe_study(
    study: Study, rows: dict[str, Row], cells: list[Cell], errors: list[tuple[str, str]], command: str
) -> StudyInfo:
    """The facts about the whole study, for the report."""
    values = setting_values(study.runs)
    shared = [name for name in values if len(values[name]) == 1 and name not in OF_A_METHOD]
    in_score_tables = [name for name in values if all(name in run.point for run in study.runs)]
    return StudyInfo(
        name=study.name,
        about=study.file.about,
        command=command,
        baselines=study.file.baselines,
        metrics=study.file.metrics,
        levene=study.file.levene,
        paper_note=describe_paper_differences(study) if any(cell.paper for cell in cells) else "",
        runs_planned=len(study.runs),
        runs_finished=len(rows),
        runs_with_errors=errors,
        settings={name: values[name][0] for name in shared if values[name][0] not in (None, ())},
        method_settings=method_settings(study.runs, left_out={*shared, *in_score_tables} - {*OF_A_METHOD}),
        machine=describe_machines([read_json_object(row.folder / "settings.json") for row in rows.values()]),
        seconds=sum(row.seconds or 0.0 for row in rows.values()),
    )


def setting_values(runs: list[Run]) -> dict[str, list]:
    """{setting: its different values in these runs}, without seeds and those that say where and how to compute.

    A setting that only train.py or only multitask.py has is None in the runs of the other program.
    """
    names: dict[str, str] = {}  # flag -> field
    for program in dict.fromkeys(type(run.settings) for run in runs):
        names |= {flag: f.name for flag, f in settings_fields(program).items() if f.name not in NOT_COMPARED}
    values = {}
    for flag, name in names.items():
        different = dict.fromkeys(getattr(run.settings, name, None) for run in runs)
        values[flag] = [in_project(value) if name in ("model", "data") else value for value in different]
    return values


def method_settings(runs: list[Run], left_out: set[str]) -> dict[tuple[str, str], dict[str, list]]:
    """{(task, method): {setting: its values}}"""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.task, run.method), []).append(run)
    return {
        name: {flag: values for flag, values in setting_values(group).items() if flag not in left_out}
        for name, group in groups.items()
    }


def in_project(name: str) -> str:
    """A path inside the project without the folder of the project, so that a report is the same on all machines."""
    path = Path(name).absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else name


def describe_machines(saved: list[dict[str, Any]]) -> dict[str, str]:
    """All versions, devices and precisions of these runs' settings.json: {"torch": "2.12.0; 2.13.0", ...}"""
    facts: dict[str, set[str]] = {}
    for values in saved:
        device = f"{values['device_name']} ({values['device']}, {values['precision']}, threads: {values['threads']})"
        for name, fact in {**values["versions"], "device": device}.items():
            facts.setdefault(name, set()).add(fact)
    return {name: "; ".join(sorted(several)) for name, several in facts.items()}


def describe_paper_differences(study: Study) -> str:
    """How these runs differ from those that the study file describes: another model, other settings; or ""."""
    file, sentences = study.file, []
    of_paper: dict[str, None] = {}  # names of models, as an ordered set
    others: dict[str, None] = {}
    for task, method in dict.fromkeys((run.task, run.method) for run in study.runs):
        in_file = models_of_file(file, task, method)
        here = [Path(run.settings.model).name for run in study.runs if (run.task, run.method) == (task, method)]
        if not set(here) <= set(in_file):
            of_paper |= dict.fromkeys(in_file)
            others |= dict.fromkeys(here)
    if others:
        names = join(list(of_paper)) or "a model that the study file does not name"
        sentences.append(f"The paper's numbers are for {names}; this report is for {join(list(others))}.")
    changes = [name for name in file.changed_settings if name.replace("-", "_") not in ("model", "data", *NOT_COMPARED)]
    changes += [item.partition("=")[0] for item in file.hyper_parameters]
    if changes:
        sentences.append(f"The command line sets {join(changes)}: the recipe may differ from the paper's.")
    return " ".join(sentences)


def models_of_file(file: StudyFile, task: str, method: str) -> list[str]:
    """The names of the models that the study file gives a method on a task, the command line's left out."""
    models = merged_settings(replace(file, changed_settings={}, hyper_parameters=[]), task, method).get("model", [])
    return [Path(model).name for model in (models if isinstance(models, list) else [models])]

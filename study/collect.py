"""From the run folders of a study to rows, and from rows to cells."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import train
from minbert.data.predictions import read_predictions
from minbert.data.tasks import TASKS
from minbert.files import read_json_object
from minbert.training.settings import flag_of
from study.comparisons import point_key
from study.folder import FINISHED, NOT_COMPARED, StudyFolder
from study.plan import Run, Study
from study.report import StudyInfo
from study.results import Cell, Row
from study.seeds import agreement
from study.study_file import scored_names

ROOT = Path(train.__file__).resolve().parent


def load_rows(study: Study, folder: StudyFolder) -> dict[str, Row]:
    """{name of the run: row} of the finished runs. Raises InputError for a metrics.json that is damaged."""
    return {
        run.name: load_row(run, folder.run_folder(run), study.file.metrics.get(run.task))
        for run in study.runs
        if folder.state(run) == FINISHED
    }


def load_row(run: Run, folder: Path, metric: str | None) -> Row:
    """Read a run's metrics.json. `metric` replaces the score of a run of train.py, in the history too."""
    values = read_json_object(folder / "metrics.json")
    history = [score_by(metric, epoch) for epoch in values["history"] or []]
    kept = next((epoch for epoch in history if epoch["epoch"] == values["kept_epoch"]), {})
    return Row(
        task=run.task,
        method=run.method,
        point=run.point,
        seed=run.settings.seed,
        init_seed=run.settings.init_seed,
        data_seed=run.settings.data_seed,
        score=kept["dev"]["score"] if kept else None,
        failed=values["failed"],
        failure=values["failure"],
        train_loss=values["train_loss"],
        train_score=kept["train"]["score"] if "train" in kept else None,
        seconds=values["seconds"],
        metrics=all_metrics(values),
        history=history,
        folder=folder,
        task_failures={task: result["failure"] for task, result in values.get("tasks", {}).items() if result["failed"]},
    )


def score_by(metric: str | None, epoch: dict[str, Any]) -> dict[str, Any]:
    """An entry of the history in which `metric`, if there is one, is the score of each split."""
    if metric is None:
        return epoch
    scored = {
        split: values | {"score": values["metrics"][metric]} for split, values in epoch.items() if split != "epoch"
    }
    return epoch | scored


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
    ordered = sorted(
        runs_of, key=lambda cell: (tasks.index(cell[0]), methods.index(cell[1]))
    )  # points keep their order
    return [
        make_cell(study, name, [rows[run.name] for run in runs_of[cell] if run.name in rows], runs_of[cell][0])
        for entry in tasks
        for name in scored_names(entry)
        for cell in ordered
        if cell[0] == entry
    ]


def make_cell(study: Study, name: str, rows: list[Row], run: Run) -> Cell:
    """The cell of what was scored under `name`: the run's task, the average of its tasks, or one of them."""
    paper = study.file.paper.get(run.method, {}).get(name, {})
    if name == run.task:
        scores = [row.score for row in rows if row.score is not None]
    else:
        metric = study.file.metrics.get(name)
        key = f"{name}.{metric}" if metric else name
        scores = [row.metrics[key] for row in rows if row.score is not None]
        rows = [of_one_task(row, name) for row in rows]
    return Cell(name, run.method, run.point, rows, scores, paper)


def of_one_task(row: Row, task: str) -> Row:
    """A run of several tasks, failed only if this task failed (or no task has a score)."""
    failure = row.failure if row.score is None else row.task_failures.get(task, "")
    return replace(row, failed=bool(failure), failure=failure)


def measure_agreement(cells: list[Cell]) -> dict[tuple, dict]:
    """{(task, method, point): how far the predictions of the cell's runs agree}, for classes and at least two runs."""
    results = {}
    for cell in cells:
        if cell.task not in TASKS or not TASKS[cell.task].labels:
            continue
        predictions = [read_predictions(row.folder, cell.task, "dev") for row in cell.rows]
        known = [values for values in predictions if values]
        if len(known) > 1:
            results[cell.task, cell.method, point_key(cell.point)] = agreement(np.array(known))
    return results


def describe_study(study: Study, rows: dict[str, Row], cells: list[Cell], errors: list[tuple[str, str]], command: str):
    """What the report says beside the cells: a report.StudyInfo."""
    machines = [read_json_object(row.folder / "settings.json") for row in rows.values()]
    devices = sorted({f"{saved['device_name']} ({saved['device']}, threads: {saved['threads']})" for saved in machines})
    return StudyInfo(
        name=study.name,
        about=study.file.about,
        command=command,
        baselines=study.file.baselines,
        levene=study.file.levene,
        runs_planned=len(study.runs),
        runs_finished=len(rows),
        runs_with_errors=errors,
        settings=shared_settings(study),
        versions=machines[0]["versions"] if machines else {},
        device="; ".join(devices),
        agreement=measure_agreement(cells),
        seconds=sum(row.seconds or 0.0 for row in rows.values()),
    )


def shared_settings(study: Study) -> dict[str, Any]:
    """The settings that are equal in all runs, by their flags, without those that say where and how to compute."""
    first = study.runs[0].settings
    shared = {}
    for f in fields(first):
        values = [getattr(run.settings, f.name, None) for run in study.runs]
        if f.name not in NOT_COMPARED and all(value == values[0] for value in values) and values[0] not in (None, ()):
            shared[flag_of(f).removeprefix("--")] = in_project(values[0]) if f.name in ("model", "data") else values[0]
    return shared


def in_project(name: str) -> str:
    """A path inside the project without the folder of the project, so that a report is the same on all machines."""
    path = Path(name).absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else name

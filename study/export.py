"""The results of a study as data for other programs: results.csv and summary.json."""

import csv
import io
from collections.abc import Sequence

from study.formats import format_setting
from study.results import Cell, Result, Row, StudyInfo
from study.seed_effects import expected_best


def results_csv(rows: Sequence[Row]) -> str:
    """One row a run. Numbers have all their digits; what is unknown is empty. Folders are below the study's folder."""
    settings = list(dict.fromkeys(name for row in rows for name in row.point))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    seed_names = [name for name in ("init_seed", "data_seed") if any(getattr(row, name) != row.seed for row in rows)]
    train_score = ["train_score"] if any(row.train_score is not None for row in rows) else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    first, last = ["seed", *seed_names, "score", "failed", "train_loss", *train_score, "seconds"], ["failure", "folder"]
    writer.writerow(["task", "method", *settings, *first, *metrics, *last])
    for row in rows:
        values = [getattr(row, name) for name in first]
        point, scores = [row.point.get(name) for name in settings], [row.metrics.get(name) for name in metrics]
        columns = [row.task, row.method, *point, *values, *scores, row.failure, f"runs/{row.folder.name}"]
        writer.writerow([csv_value(value) for value in columns])
    return text.getvalue()


def csv_value(value: object) -> str:
    """A float with all its digits, true or false, a list with spaces, and nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))
    return value if isinstance(value, str) else format_setting(value)


def make_summary(study: StudyInfo, results: Sequence[Result]) -> dict:
    """The content of summary.json. Scores are from 0 to 1, the paper's numbers in points."""
    return {
        "name": study.name,
        "runs_planned": study.runs_planned,
        "runs_finished": study.runs_finished,
        "runs_with_errors": [{"run": name, "reason": reason} for name, reason in study.runs_with_errors],
        "seconds": study.seconds,
        "cells": [cell_summary(result) for result in results],
        "comparisons": [comparison_summary(result) for result in results if result.comparison is not None],
    }


def cell_summary(result: Result) -> dict:
    """Everything that the report says about one cell alone."""
    cell = result.cell
    values = {
        **name_in_json(cell),
        **result.summary,
        "failed": cell.failed,
        "paper": cell.paper,
        "expected_best": expected_best(cell.scores),
    }
    optional = {"train_and_dev": result.gap, "agreement": cell.agreement, "variance": result.variance}
    return values | {name: value for name, value in optional.items() if value}


def comparison_summary(result: Result) -> dict:
    """One comparison, with each p before and after the correction."""
    baseline = {"baseline": result.baseline.cell.method, "baseline_point": result.baseline.cell.point}
    return name_in_json(result.cell) | baseline | result.comparison


def name_in_json(cell: Cell) -> dict:
    return {"task": cell.task, "method": cell.method, "point": cell.point}

"""results.csv: one row a run."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from support.study_cells import make_cell, make_cells, make_info, make_row, markdown_tables, read_summary

from study.export import results_csv
from study.report import write_report
from study.results import Row

pytestmark = pytest.mark.filterwarnings("error")


def read_csv(rows: list[Row]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(results_csv(rows))))


def test_results_csv_gives_the_rows_back(tmp_path):
    rows = [row for cell in make_cells(tmp_path) for row in cell.rows]
    written = read_csv(rows)
    assert list(written[0]) == (
        "task method seed score failed train_loss train_score seconds accuracy failure folder".split()
    )
    assert len(written) == 42
    for line, row in zip(written, rows, strict=True):
        assert (line["task"], line["method"], int(line["seed"])) == (row.task, row.method, row.seed)
        for name in ("score", "train_loss", "train_score", "seconds"):
            assert (float(line[name]) if line[name] else None) == getattr(row, name)  # every digit
        assert line["failed"] == ("true" if row.failed else "false")
        assert (float(line["accuracy"]) if line["accuracy"] else None) == row.metrics.get("accuracy")
        assert (line["failure"], line["folder"]) == (row.failure, f"runs/{row.folder.name}")


def test_results_csv_has_the_columns_that_the_rows_need(tmp_path):
    hostile = 'x, "y"\nz'
    rows = [
        make_row(tmp_path, "plain", 0, 0.7, point={"lr": 1e-5, "set": ["a=1", "b=2"]}, train_score=None),
        make_row(tmp_path, "plain", 1, 0.1 + 0.2, point={"epochs": 3, "lr": 2e-5}, train_score=None, data_seed=5,
                 metrics={"f1": 1 / 3, "accuracy": 0.5}, failure=hostile),
    ]  # fmt: skip
    first, second = read_csv(rows)
    assert list(first) == (
        "task method lr set epochs seed data_seed score failed train_loss seconds accuracy f1 failure folder".split()
    )
    assert (first["lr"], first["set"], first["epochs"]) == ("1e-05", "a=1 b=2", "")
    assert (second["score"], second["f1"], second["failure"]) == ("0.30000000000000004", repr(1 / 3), hostile)
    assert (first["data_seed"], second["data_seed"]) == ("0", "5")
    assert float(read_csv([replace(rows[0], score=np.float64(0.25))])[0]["score"]) == 0.25


def test_a_run_of_several_tasks_is_one_row(tmp_path):
    row = make_row(tmp_path, "plain", 0, 0.6, "sst5+quora")
    cells = [
        make_cell([row]),
        make_cell([replace(row, score=0.5, failed=True)], task="sst5"),
        make_cell([replace(row, score=0.7)], task="quora"),
    ]
    write_report(tmp_path / "out", make_info(), cells)
    with (tmp_path / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        (written,) = csv.DictReader(file)
    assert (written["task"], written["score"], written["failed"]) == ("sst5+quora", "0.6", "false")
    # The train score of the run is not that of one task.
    assert ["train_and_dev" in cell for cell in read_summary(tmp_path / "out")["cells"]] == [True, False, False]
    assert [table[0]["mean"] for table in markdown_tables(tmp_path / "out")[:5] if "mean" in table[0]] == [
        "60.00",
        "50.00",
        "70.00",
    ]

"""Made-up rows and cells of a study, with curves on disk as real runs have them; readers of a report."""

import json
import random
import re
from pathlib import Path

from study.comparisons import measure_cells
from study.results import Cell, Result, Row, StudyInfo

MAJORITY = "dev: score 0.5271 is not above the majority baseline's 0.5271"
NOT_FINITE = "the loss of step 3 is not finite"
BASELINES = {"smart": "plain", "lnsr": "plain", "no_correction": "plain"}


def make_row(folder: Path, method: str, seed: int, score: float | None, task: str = "rte", **changes) -> Row:
    """A run of three epochs that ends at this score, with a log of six lines; None for a loss that is not finite."""
    rng = random.Random(f"{task} {method} {seed} {changes.get('point')}")
    name = f"{task}-{method}-{seed}-{len(list(folder.iterdir())) if folder.exists() else 0}"
    run = folder / name
    run.mkdir(parents=True)
    steps = range(10, 70, 10)
    losses = [0.7 - 0.009 * step * (score or 0.1) + rng.uniform(-0.05, 0.05) for step in steps]
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in zip(steps, losses)]
    (run / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    history = []
    for epoch in (1, 2, 3) if score is not None else ():
        at_epoch = score if epoch == 3 else score - 0.03 * (3 - epoch) + rng.uniform(-0.02, 0.02)
        history.append({"epoch": epoch, "dev": {"score": at_epoch, "metrics": {"accuracy": at_epoch}}})
    values = {
        "point": {},
        "init_seed": seed,
        "data_seed": seed,
        "failed": score is None or score <= 0.5271,
        "failure": NOT_FINITE if score is None else MAJORITY if score <= 0.5271 else "",
        "train_loss": None if score is None else losses[-1],
        "train_score": None if score is None else min(1.0, score + 0.1 + rng.uniform(0, 0.05)),
        "seconds": 61.25,
        "metrics": {} if score is None else {"accuracy": score},
        "history": history,
        "folder": run,
    }
    return Row(task=task, method=method, seed=seed, score=score, **values | changes)


def make_cell(rows: list[Row], **changes) -> Cell:
    """The cell of these rows."""
    first = rows[0]
    return Cell(**{"task": first.task, "method": first.method, "point": first.point, "rows": rows} | changes)


def make_cells(folder: Path) -> list[Cell]:
    """Three methods on two tasks with seven seeds: plain, smart (ahead), lnsr (like plain).

    One run of plain on rte failed, one of lnsr on rte had a loss that is not finite.
    """
    rng, cells = random.Random(0), []
    for task, start in (("rte", 0.66), ("mrpc", 0.81)):
        for method, gain, spread in (("plain", 0.0, 0.02), ("smart", 0.05, 0.008), ("lnsr", 0.003, 0.018)):
            scores: list[float | None] = [start + gain + rng.gauss(0, spread) for _ in range(7)]
            if task == "rte":
                scores[2] = {"plain": 0.5271, "smart": scores[2], "lnsr": None}[method]
            rows = [make_row(folder, method, seed, score, task) for seed, score in enumerate(scores)]
            paper = {"mean": 100 * (start + gain) + 1.5, "std": 100 * spread} if task == "rte" else {}
            agreement = {"runs": 7, "equal_to_all": 0.5, "pairwise": 0.8125, "fleiss_kappa": 0.625}
            cells.append(make_cell(rows, paper=paper, agreement=None if cells else agreement))
    return cells


def rte_results(folder: Path) -> list[Result]:
    """plain (one failed run), smart, lnsr (one run without a score)."""
    return [result for result in measure_cells(make_cells(folder), BASELINES) if result.cell.task == "rte"]


def make_grid(folder: Path) -> list[Cell]:
    """Two methods on rte over 2 values of epochs and 3 of lr, with five seeds; a high lr fails without correction."""
    rng, cells = random.Random(1), []
    for method in ("plain", "no_correction"):
        for epochs in (3, 10):
            for lr in (1e-5, 2e-5, 5e-4):
                fails = method == "no_correction" and lr == 5e-4
                mean = 0.64 + 0.004 * epochs
                scores = [0.5271 if fails and seed < 3 else mean + rng.gauss(0, 0.015) for seed in range(5)]
                point = {"epochs": epochs, "lr": lr}
                cells.append(make_cell([make_row(folder, method, i, x, point=point) for i, x in enumerate(scores)]))
    return cells


def make_info(**changes) -> StudyInfo:
    """What write_report wants to know besides the cells."""
    values = {
        "name": "made-up",
        "about": "Numbers from a random generator: they show what a report looks like.",
        "command": "python -m study made-up.toml --seeds 7",
        "baselines": BASELINES,
        "metrics": {},
        "levene": "median",
        "paper_note": "",
        "runs_planned": 42,
        "runs_finished": 42,
        "runs_with_errors": [],
        "settings": {"model": "bert-large-uncased", "epochs": 3, "lr": 5e-5, "bias-correction": True},
        "method_settings": {
            ("rte", "plain"): {"option": ["finetune"], "set": [()], "clip": [0.0]},
            ("rte", "smart"): {"option": ["smart"], "set": [("smart.eps=1e-3", "smart.steps=2")], "clip": [1.0, 5e-4]},
        },
        "machine": {"python": "3.12.3", "torch": "2.13.0", "minbert": "1.0", "device": "CPU, 2 cores"},
        "seconds": 42 * 61.25,
    }
    return StudyInfo(**values | changes)


def read_summary(folder: Path) -> dict:
    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads((folder / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)


def markdown_tables(folder: Path) -> list[list[dict[str, str]]]:
    """The tables of report.md, in their order, each as a list of rows by column."""
    tables, lines = [], (folder / "report.md").read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        if re.match(r"\| :?-", line):
            header = [cell.strip() for cell in lines[i - 1].strip("|").split("|")]
            rows = []
            while i + 1 < len(lines) and lines[i + 1].startswith("|"):
                i += 1
                rows.append(dict(zip(header, [cell.strip() for cell in lines[i].strip("|").split("|")])))
            tables.append(rows)
    return tables

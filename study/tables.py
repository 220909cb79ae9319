"""The tables of a study's report."""

import math
from collections.abc import Sequence

import numpy as np

from study import seeds, statistics
from study.comparisons import Result, is_whole_run, point_key, scored_rows
from study.document import Table
from study.results import Cell
from study.words import MISSING, interval, name_baseline, number, p_value, plural, points, setting

PAPER_NUMBERS = ("n", "mean", "std", "median", "min", "max", "failed")
COUNTS = ("n", "failed")  # of the paper's numbers; the others are in points
SCORES_NOTE = (
    "Dev scores in points (score × 100). std: standard deviation over the runs (ddof 1). Interval: bootstrap, of the "
    "mean. Failed runs that have a score count in all columns."
)


def method_columns(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]], str]:
    """The first columns of each table: header, one row for each cell, alignment."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.point))
    rows = [[cell.method, *(setting(cell.point.get(name)) for name in names)] for cell in cells]
    return ["method", *names], rows, "l" + "r" * len(names)


def make_table(cells: Sequence[Cell], header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Table:
    """A table with a row for each cell: its method and settings, then numbers (and names of baselines) on the right."""
    first, starts, alignment = method_columns(cells)
    joined = [[*start, *row] for start, row in zip(starts, rows)]
    return Table([*first, *header], joined, alignment + "r" * len(header), caption)


def score_table(results: Sequence[Result]) -> Table:
    """The scores of one task, and the paper's numbers where the study file has some."""
    cells = [result.cell for result in results]
    paper = [name for name in PAPER_NUMBERS if any(name in cell.paper for cell in cells)]
    header = [
        "n",
        "mean",
        "std",
        "median",
        "min",
        "max",
        "95 % interval",
        "failed",
        *(f"paper {name}" for name in paper),
    ]
    rows = []
    for result in results:
        values = result.summary
        ours = [points(values[name]) for name in ("mean", "std", "median", "min", "max")]
        theirs = [paper_number(name, result.cell.paper.get(name)) for name in paper]
        between = interval(values["low"], values["high"])
        rows.append([str(values["n"]), *ours, between, count_failed(result.cell), *theirs])
    task = cells[0].task
    return make_table(cells, header, rows, f"{task}. {SCORES_NOTE}" + (" paper: in points." if paper else ""))


def count_failed(cell: Cell) -> str:
    """2 of 7"""
    return f"{cell.failed} of {len(cell.rows)}"


def paper_number(name: str, value: float | None) -> str:
    """A number of a paper, which is in points already."""
    if value is None:
        return MISSING
    return f"{value:g}" if name in COUNTS else number(value)


def comparison_table(results: Sequence[Result], family: int, center: str) -> Table | None:
    """The comparisons of one task. `family` is their number in the report, `center` that of Levene's test.

    None without any.
    """
    compared = [result for result in results if result.comparison is not None]
    if not compared:
        return None
    header = ["compared with", "difference", "95 % interval", "Welch p", "Mann-Whitney p", "Levene p", "Cohen's d"]
    rows = []
    for result in compared:
        values = result.comparison
        tests = [p_value(values[f"{test}_p_corrected"]) for test in ("welch", "mann_whitney", "levene")]
        difference, effect = points(values["difference"], sign=True), number(values["cohens_d"])
        needed = MISSING if values["seeds_needed"] is None else str(values["seeds_needed"])
        between = interval(values["low"], values["high"])
        rows.append([name_baseline(result), difference, between, *tests, effect, needed])
    caption = (
        f"{compared[0].cell.task}. Differences of the means in points. Each p, but not the interval, is corrected "
        f"(Holm) for the {plural(family, 'comparison')} of this report. Levene: around the {center}. Seeds needed: "
        "runs of each method with which one t test at .05 sees this difference with power .8."
    )
    return make_table([result.cell for result in compared], [*header, "seeds needed"], rows, caption)


def gap_values(cell: Cell) -> dict[str, float | None] | None:
    """statistics.describe_gap of the runs that have both scores, and their number as n; None without any."""
    if not is_whole_run(cell):
        return None
    pairs = [(row.train_score, score) for row, score in scored_rows(cell) if is_number(row.train_score)]
    if not pairs:
        return None
    return {"n": len(pairs), **statistics.describe_gap([train for train, _ in pairs], [dev for _, dev in pairs])}


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def gap_table(results: Sequence[Result]) -> Table | None:
    """Train score, dev score and their difference; None without train scores."""
    found = [(result.cell, values) for result in results if (values := gap_values(result.cell))]
    if not found:
        return None
    rows = []
    for _, values in found:
        columns = [points(values[name]) for name in ("train_mean", "dev_mean", "gap_mean", "gap_std")]
        rows.append([str(values["n"]), *columns])
    header = ["n", "train", "dev", "gap", "std of the gap"]
    caption = (
        f"{found[0][0].task}. Mean scores in points on the training data and on dev. Gap: train minus dev of each run."
    )
    return make_table([cell for cell, _ in found], header, rows, caption)


def agreement_table(results: Sequence[Result], agreements: dict[tuple, dict]) -> Table | None:
    """How far the runs of each cell give the same predictions; None where nothing is known.

    agreements: (task, method, key of the point) -> the result of seeds.agreement.
    """
    cells = [result.cell for result in results if agreement_of(result.cell, agreements)]
    if not cells:
        return None
    rows = []
    for cell in cells:
        values = agreement_of(cell, agreements)
        shares = [points(values[name]) for name in ("equal_to_all", "pairwise")]
        rows.append([*shares, number(values["fleiss_kappa"], digits=3)])
    header = ["same in all runs", "same in two runs", "Fleiss' kappa"]
    caption = (
        f"{cells[0].task}. Share of the dev examples, in percent, on which all runs agree, and on which two runs agree "
        "on average. Kappa is 1 for full agreement and 0 for agreement by chance."
    )
    return make_table(cells, header, rows, caption)


def agreement_of(cell: Cell, agreements: dict[tuple, dict]) -> dict | None:
    return agreements.get((cell.task, cell.method, point_key(cell.point)))


def variance_values(cell: Cell) -> dict[str, float | None] | None:
    """seeds.split_variance; None unless each of 2 or more init seeds has a score with each of 2 or more data seeds."""
    scores = {(row.init_seed, row.data_seed): score for row, score in scored_rows(cell)}
    inits, orders = sorted({init for init, _ in scores}), sorted({order for _, order in scores})
    if min(len(inits), len(orders)) < 2 or len(scores) < len(inits) * len(orders):
        return None
    table = np.array([[scores[init, order] for order in orders] for init in inits])  # [I,D]
    return {"init_seeds": len(inits), "data_seeds": len(orders), **seeds.split_variance(table)}


def variance_table(results: Sequence[Result]) -> Table | None:
    """How much of the variance comes from the initial weights and how much from the order of the data."""
    found = [(result.cell, values) for result in results if (values := variance_values(result.cell))]
    if not found:
        return None
    rows = []
    for _, values in found:
        deviations = [points(math.sqrt(values[name])) for name in ("init", "data", "residual", "total")]
        shares = [share(values[f"{name}_share"]) for name in ("init", "data", "residual")]
        rows.append([f"{values['init_seeds']} × {values['data_seeds']}", *deviations, *shares])
    header = ["seeds", "std init", "std data", "std rest", "std total", "init", "data", "rest"]
    caption = (
        f"{found[0][0].task}. Standard deviation in points that the seed of the initial head (init) and the seed of "
        "the order of the data explain, and their shares of the variance. Rest: their interaction, dropout and noise."
    )
    return make_table([cell for cell, _ in found], header, rows, caption)


def share(value: float | None) -> str:
    """31 %"""
    return MISSING if value is None else f"{100 * value:.0f} %"


def settings_table(values: dict[str, object], header: tuple[str, str]) -> Table:
    """Names and values: the settings of all runs, or the versions."""
    return Table(header, [[str(name), setting(value)] for name, value in values.items()], "ll")

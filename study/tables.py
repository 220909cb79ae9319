"""The tables of a study's report."""

import math
from collections.abc import Sequence

from minbert.report.document import Table
from minbert.report.formats import MISSING, format_number, plural
from study.formats import format_interval, format_p_value, format_points, format_setting, format_share, name_baseline
from study.results import Cell, Result
from study.study_file import PAPER_KEYS

COUNTS = ("n", "failed")  # of the paper's numbers; the others are in points
SCORES_NOTE = (
    "Dev scores in points (score × 100). std: standard deviation over the runs (ddof 1). Interval: bootstrap, of the "
    "mean; too narrow with fewer than about 20 runs. Failed runs that have a score count in all columns."
)


def method_columns(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]], str]:
    """The first columns of each table: header, one row for each cell, alignment."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.point))
    rows = [[cell.method, *(format_setting(cell.point.get(name)) for name in names)] for cell in cells]
    return ["method", *names], rows, "l" + "r" * len(names)


def make_table(cells: Sequence[Cell], header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Table:
    """A table with a row for each cell: its method and settings, then numbers (and names of baselines) on the right."""
    first, starts, alignment = method_columns(cells)
    joined = [[*start, *row] for start, row in zip(starts, rows)]
    return Table([*first, *header], joined, alignment + "r" * len(header), caption)


def score_table(results: Sequence[Result], paper_note: str) -> Table:
    """The scores of one task, and the paper's numbers where the study file has some, with a note on them."""
    cells = [result.cell for result in results]
    paper = [name for name in PAPER_KEYS if any(name in cell.paper for cell in cells)]
    header = ["n", "mean", "std", "median", "min", "max", "95 % interval", "failed"]
    rows = []
    for result in results:
        values = result.summary
        ours = [format_points(values[name]) for name in ("mean", "std", "median", "min", "max")]
        theirs = [paper_number(name, result.cell.paper.get(name)) for name in paper]
        between = format_interval(values["low"], values["high"])
        rows.append([str(values["n"]), *ours, between, count_failed(result.cell), *theirs])
    caption = f"{cells[0].task}. {SCORES_NOTE}"
    if paper:
        caption = f"{caption} paper: in points. {paper_note}".rstrip()
    return make_table(cells, [*header, *(f"paper {name}" for name in paper)], rows, caption)


def count_failed(cell: Cell) -> str:
    """2 of 7"""
    return f"{cell.failed} of {len(cell.rows)}"


def paper_number(name: str, value: float | None) -> str:
    """A number of a paper, which is in points already."""
    if value is None:
        return MISSING
    return f"{value:g}" if name in COUNTS else format_number(value)


def comparison_table(results: Sequence[Result], family: int, center: str) -> Table | None:
    """The comparisons of one task. `family` is their number in the report, `center` that of Levene's test.

    None if nothing is compared.
    """
    compared = [result for result in results if result.comparison is not None]
    if not compared:
        return None
    header = ["compared with", "difference", "95 % interval", "Welch p", "Mann-Whitney p", "Levene p", "Cohen's d"]
    rows = []
    for result in compared:
        values = result.comparison
        tests = [format_p_value(values[f"{test}_p_corrected"]) for test in ("welch", "mann_whitney", "levene")]
        difference, effect = format_points(values["difference"], sign=True), format_number(values["cohens_d"])
        needed = MISSING if values["seeds_needed"] is None else str(values["seeds_needed"])
        between = format_interval(values["low"], values["high"])
        rows.append([name_baseline(result), difference, between, *tests, effect, needed])
    caption = (
        f"{compared[0].cell.task}. Differences of the means in points. Each p, but not the interval, is corrected "
        f"(Holm) for the {plural(family, 'comparison')} of this report. Levene: around the {center}. Seeds needed: "
        "runs of each method with which one t test at .05 sees this difference with power .8."
    )
    return make_table([result.cell for result in compared], [*header, "seeds needed"], rows, caption)


def gap_table(results: Sequence[Result]) -> Table | None:
    """Train score, dev score and their difference; None if no cell has train scores."""
    results = [result for result in results if result.gap]
    if not results:
        return None
    rows = []
    for values in [result.gap for result in results]:
        columns = [format_points(values[name]) for name in ("train_mean", "dev_mean", "gap_mean", "gap_std")]
        rows.append([str(values["n"]), *columns])
    cells = [result.cell for result in results]
    caption = (
        f"{cells[0].task}. Mean scores in points on the training data and on dev. Gap: train minus dev of each run."
    )
    return make_table(cells, ["n", "train", "dev", "gap", "std of the gap"], rows, caption)


def agreement_table(results: Sequence[Result]) -> Table | None:
    """How far the runs of each cell give the same predictions; None if this is not known for any cell."""
    cells = [result.cell for result in results if result.cell.agreement]
    if not cells:
        return None
    rows = []
    for values in [cell.agreement for cell in cells]:
        shares = [format_points(values[name]) for name in ("equal_to_all", "pairwise")]
        rows.append([str(values["runs"]), *shares, format_number(values["fleiss_kappa"], digits=3)])
    header = ["runs", "same in all runs", "same in two runs", "Fleiss' kappa"]
    caption = (
        f"{cells[0].task}. Share of the dev examples, in percent, on which all runs agree (fewer with more runs), "
        "and on which two runs agree on average. Kappa is 1 for full agreement and 0 for agreement by chance."
    )
    return make_table(cells, header, rows, caption)


def variance_table(results: Sequence[Result]) -> Table | None:
    """How much of the variance comes from the initial weights and how much from the order of the data."""
    results = [result for result in results if result.variance]
    if not results:
        return None
    rows = []
    for values in [result.variance for result in results]:
        deviations = [format_points(math.sqrt(values[name])) for name in ("init", "data", "residual", "total")]
        shares = [format_share(values[f"{name}_share"]) for name in ("init", "data", "residual")]
        rows.append([f"{values['init_seeds']} × {values['data_seeds']}", *deviations, *shares])
    header = ["seeds", "std init", "std data", "std rest", "std total", "init", "data", "rest"]
    cells = [result.cell for result in results]
    caption = (
        f"{cells[0].task}. Standard deviation in points that the seed of the initial head (init) and the seed of "
        "the order of the data explain, and their shares of the variance. Rest: their interaction, dropout and noise."
    )
    return make_table(cells, header, rows, caption)


def method_table(settings: dict[tuple[str, str], dict[str, list]]) -> Table:
    """The settings that not all runs share, a row for each method on each task. A grid gives several values."""
    names = list(dict.fromkeys(name for of_method in settings.values() for name in of_method))
    rows = []
    for (task, method), of_method in settings.items():
        values = [of_method.get(name, [None]) for name in names]
        rows.append([task, method, *(", ".join(map(format_setting, several)) for several in values)])
    return Table(["task", "method", *names], rows, "ll" + "r" * len(names))


def settings_table(values: dict[str, object], header: tuple[str, str]) -> Table:
    """Names and values: the settings of all runs, or the versions."""
    return Table(header, [[str(name), format_setting(value)] for name, value in values.items()], "ll")

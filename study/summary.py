"""The first paragraph of a report: what was compared and came out how, and which runs failed."""

import re
from collections import Counter
from collections.abc import Sequence

from minbert.report.formats import join, plural
from study.formats import format_interval, format_p_equation, format_points, name_baseline, name_cell
from study.results import Cell, Result, Row
from study.statistics import ROUNDING

FEW = 4  # comparisons that the paragraph describes one by one; of more it names the significant ones, counts the others
MANY = 10  # significant comparisons that it names


def summarize_in_words(results: Sequence[Result], baselines: dict[str, str]) -> str:
    """Who is ahead, what cannot be told apart, what could not be compared, what failed.

    baselines: method -> the method that it should be compared with.
    """
    compared = [result for result in results if result.comparison is not None]
    sentences = [*describe_comparisons(compared), *describe_spreads(compared), *describe_missing(results)]
    sentences += describe_not_compared(results, baselines)
    sentences += describe_all_failures([result.cell for result in results])
    if any(result.summary["n"] == 1 for result in results):
        sentences.append(describe_single_seeds(results))
    return " ".join(sentences)


def describe_comparisons(compared: Sequence[Result]) -> list[str]:
    """A sentence for each comparison; of many only for the significant ones, and the number of the others."""
    if len(compared) <= FEW:
        return [describe_comparison(result) for result in compared]
    significant = [result for result in compared if result.is_significant()]
    significant.sort(key=lambda result: result.comparison["welch_p_corrected"])
    sentences = [describe_comparison(result) for result in significant[:MANY]]
    further = len(significant) - MANY
    if further > 0:
        verb = "shows" if further == 1 else "show"
        sentences.append(f"{plural(further, 'further comparison')} {verb} a difference (tables below).")
    others = [result for result in compared if not result.is_significant()]
    return sentences + describe_others(others, after_significant=bool(significant))


def describe_others(results: Sequence[Result], after_significant: bool) -> list[str]:
    """How many of these comparisons show no significant difference, and how many have no test.

    after_significant: whether the text has named significant comparisons before.
    """
    tested = [result for result in results if result.comparison["welch_p_corrected"] is not None]
    untested = len(results) - len(tested)
    sentences = []
    if tested:
        others = "comparison shows" if len(tested) == 1 else f"{len(tested)} comparisons show"
        start = f"The {'other ' if after_significant else ''}{others}"
        by_ranks = sum(result.is_significant("mann_whitney_p") for result in tested)
        ranks = f"; by ranks (Mann-Whitney) {by_ranks} of them {'do' if by_ranks > 1 else 'does'}" if by_ranks else ""
        sentences.append(f"{start} no significant difference of the means after Holm's correction{ranks}.")
    if untested:
        sentences.append(f"{plural(untested, 'comparison')} cannot be tested: one run on a side, or no spread.")
    return sentences


def describe_comparison(result: Result) -> str:
    """One sentence: ahead, behind, not distinguishable, or not testable."""
    values, task = result.comparison, result.cell.task
    name, baseline = name_cell(result.cell), name_baseline(result)
    difference, p = values["difference"], values["welch_p_corrected"]
    between = format_interval(values["low"], values["high"])
    if p is None:
        return describe_untested(result)
    if result.is_significant():
        side = "ahead of" if difference > 0 else "behind"
        return (
            f"{name} is {side} {baseline} on {task} by {format_points(abs(difference))} points (95 % interval of the "
            f"difference {between}, Welch {format_p_equation(p)} after Holm's correction, {count_seeds(result)})."
        )
    by_ranks = ""
    if result.is_significant("mann_whitney_p"):
        by_ranks = f"; by ranks they differ, Mann-Whitney {format_p_equation(values['mann_whitney_p_corrected'])}"
    return (
        f"{name} cannot be distinguished from {baseline} on {task} ({format_points(difference, sign=True)}, interval "
        f"{between}, {format_p_equation(p)}, {count_seeds(result)}{by_ranks}{describe_seeds_needed(result)})."
    )


def describe_seeds_needed(result: Result) -> str:
    """How many seeds would show the difference; nothing if there are as many, which the correction hides."""
    needed = result.comparison["seeds_needed"]
    if needed is None or needed <= min(result.summary["n"], result.baseline.summary["n"]):
        return ""
    return f"; about {two_digits(needed)} seeds each would be needed to see such a difference"


def two_digits(count: int) -> int:
    """187 -> 190: the estimate is not more exact."""
    return round(count, 2 - len(str(count))) if count > 99 else count


def describe_untested(result: Result) -> str:
    """A comparison for which Welch's test is undefined: one run on a side, or no spread."""
    name, baseline, task = name_cell(result.cell), name_baseline(result), result.cell.task
    difference = result.comparison["difference"]
    single = min(result.summary["n"], result.baseline.summary["n"]) < 2
    reason = count_seeds(result) if single else "neither has any spread"
    if abs(difference) < ROUNDING:
        return f"{name} and {baseline} have equal scores on {task} ({reason})."
    side = "more" if difference > 0 else "less"
    scored = f"{name} scores {format_points(abs(difference))} points {side} than {baseline} on {task}"
    return f"{scored}, which cannot be tested ({reason})."


def count_seeds(result: Result) -> str:
    """10 seeds each, or 9 and 10 seeds: those with a score, of the method and of its baseline."""
    ours, theirs = result.summary["n"], result.baseline.summary["n"]
    return f"{plural(ours, 'seed')} each" if ours == theirs else f"{ours} and {plural(theirs, 'seed')}"


def describe_spreads(compared: Sequence[Result]) -> list[str]:
    """Sentences on methods whose spread differs from the baseline's by Levene's test."""
    sentences = []
    for result in [result for result in compared if result.is_significant("levene_p")][:MANY]:
        # The test compares these distances. One far run can turn the order of the standard deviations around.
        ours, theirs = result.comparison["distance"], result.comparison["baseline_distance"]
        deviations = [format_points(cell.summary["std"]) for cell in (result, result.baseline)]
        sentences.append(
            f"{name_cell(result.cell)} varies {'less' if ours < theirs else 'more'} over the seeds than "
            f"{name_baseline(result)} on {result.cell.task} (mean distance to the center {format_points(ours)} and "
            f"{format_points(theirs)}, Levene {format_p_equation(result.comparison['levene_p_corrected'])}; standard "
            f"deviation {deviations[0]} and {deviations[1]})."
        )
    return sentences


def describe_missing(results: Sequence[Result]) -> list[str]:
    """The sentence for a study in which nothing was compared."""
    if not any(result.cell.rows for result in results):
        return ["No run has a score yet."]
    if not any(result.cell.scores for result in results):
        return ["No run has a score."]
    if any(result.comparison for result in results):
        return []
    best = []
    for task in dict.fromkeys(result.cell.task for result in results):
        scored = [result for result in results if result.cell.task == task and result.cell.scores]
        if scored:
            top = max(scored, key=lambda result: result.summary["mean"])
            best.append(f"{name_cell(top.cell)} on {task}: {format_points(top.summary['mean'])} points")
    return [f"Nothing is compared. Highest mean: {'; '.join(best)}."]


def describe_not_compared(results: Sequence[Result], baselines: dict[str, str]) -> list[str]:
    """A sentence for each cell with scores that the study wants to compare, and cannot; of many their number."""
    missing = [
        result
        for result in results
        if result.cell.scores and result.cell.method in baselines and result.comparison is None
    ]
    if len(missing) > FEW:
        return [f"{len(missing)} cells are not compared: no run of their baselines at the same settings has a score."]
    sentences = []
    for result in missing:
        baseline = baselines[result.cell.method]
        if result.baseline is None or not result.baseline.cell.rows:
            reason = f"{baseline} has no finished run with the same settings"
        else:
            reason = f"no run of {name_baseline(result)} has a score"
        sentences.append(f"{name_cell(result.cell)} on {result.cell.task} is not compared: {reason}.")
    return sentences


def describe_all_failures(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each cell that has failed runs; if there are many, one sentence with the number of failed runs.

    A run of several tasks is in several cells and counts once.
    """
    with_failures = [cell for cell in cells if cell.failed]
    if len(with_failures) <= FEW:
        return [describe_failures(cell) for cell in with_failures]
    runs = {row.folder for cell in cells for row in cell.rows}
    failed = {row.folder for cell in with_failures for row in cell.rows if row.failed}
    return [f"{len(failed)} of {plural(len(runs), 'run')} failed; the tables below say where."]


def describe_failures(cell: Cell) -> str:
    """3 of 10 runs of plain on rte failed: every example gets the same prediction."""
    reasons = Counter(failure_in_words(row) for row in cell.rows if row.failed)
    if len(reasons) == 1:
        (why,) = reasons
    else:
        why = join([f"{reason} ({count})" for reason, count in reasons.items()])
    return f"{cell.failed} of {plural(len(cell.rows), 'run')} of {name_cell(cell)} on {cell.task} failed: {why}."


def failure_in_words(row: Row) -> str:
    """The reason without the numbers of the single run, so that equal failures of several runs can be counted."""
    if row.score is None:
        return "loss or gradient not finite"
    return re.sub(r"('s)? -?\d+\.\d+", "", row.failure).replace("dev: ", "")


def describe_single_seeds(results: Sequence[Result]) -> str:
    """One seed proves nothing."""
    if all(result.summary["n"] <= 1 for result in results):
        return "Each score comes from one seed. One seed proves nothing: another seed may turn the order around."
    names = [f"{name_cell(result.cell)} on {result.cell.task}" for result in results if result.summary["n"] == 1]
    return f"One seed proves nothing; only one run has a score for {join(names)}."

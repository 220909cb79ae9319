"""Numbers and results of a study in words: the texts of its report."""

from collections import Counter
from collections.abc import Sequence

from study.comparisons import Result
from study.results import Cell, Row

FEW = 4  # comparisons that the summary describes one by one; of more it names the significant ones and counts the rest
MANY = 10  # significant comparisons that it names
MISSING = "–"


def points(value: float | None, sign: bool = False) -> str:
    """A score from 0 to 1 as points, as papers print it: 0.7223 -> 72.23; with a sign +1.20 or −1.20."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"
    if float(text) == 0:
        text = "0.00"  # not -0.00
    return text.replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """−0.51 to 1.10"""
    return MISSING if low is None or high is None else f"{points(low)} to {points(high)}"


def p_value(p: float | None) -> str:
    """.010, or < .001"""
    if p is None:
        return MISSING
    if p < 0.001:
        return "< .001"
    return f"{p:.3f}".removeprefix("0")


def p_equals(p: float) -> str:
    """p = .010, or p < .001"""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def number(value: float | None, digits: int = 2) -> str:
    """A number that is no score, such as Cohen's d."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def setting(value: object) -> str:
    """The value of a setting as a user would write it: 5e-5, true, a list with spaces."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value == 0 or abs(value) >= 0.01:
            return f"{value:g}"
        mantissa, _, exponent = repr_scientific(value)
        return f"{mantissa}e{exponent}"
    if isinstance(value, list | tuple):
        return " ".join(map(setting, value))
    return MISSING if value is None else str(value)


def repr_scientific(value: float) -> tuple[str, str, int]:
    """Mantissa and exponent of a small number, with the digits that it needs: 0.00015 -> 1.5, -4."""
    mantissa, e, exponent = f"{value:.6e}".partition("e")
    return mantissa.rstrip("0").rstrip("."), e, int(exponent)


def describe_point(point: dict[str, object], names: Sequence[str] | None = None) -> str:
    """lr 1e-4, epochs 3; with `names`, only these settings."""
    return ", ".join(f"{name} {setting(value)}" for name, value in point.items() if names is None or name in names)


def name_cell(cell: Cell, names: Sequence[str] | None = None) -> str:
    """smart, or smart (lr 1e-4, epochs 3); with `names`, only these settings."""
    point = describe_point(cell.point, names)
    return f"{cell.method} ({point})" if point else cell.method


def name_baseline(result: Result) -> str:
    """The baseline's settings are named only where they differ from the cell's."""
    baseline = result.baseline
    return baseline.method if baseline.point == result.cell.point else name_cell(baseline)


def plural(count: int, noun: str) -> str:
    """1 run, 2 runs"""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def join(texts: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def summarize_in_words(results: Sequence[Result]) -> str:
    """The first paragraph of a report: who is ahead, what cannot be told apart, what failed."""
    compared = [result for result in results if result.comparison is not None]
    sentences = [*describe_comparisons(compared), *describe_spreads(compared), *describe_missing(results)]
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
    if len(significant) > MANY:
        further = plural(len(significant) - MANY, "further comparison")
        sentences.append(f"{further} {'shows' if further.startswith('1 ') else 'show'} a difference (tables below).")
    rest = len(compared) - len(significant)
    if not significant:
        sentences.append(
            f"None of the {len(compared)} comparisons shows a significant difference after Holm's correction."
        )
    elif rest:
        others = "other comparison shows" if rest == 1 else f"other {rest} comparisons show"
        sentences.append(f"The {others} no significant difference after Holm's correction.")
    return sentences


def describe_comparison(result: Result) -> str:
    """One sentence: ahead, behind, not distinguishable, or not testable."""
    cell, values = result.cell, result.comparison
    name, baseline, task = name_cell(cell), name_baseline(result), cell.task
    difference, p = values["difference"], values["welch_p_corrected"]
    between = interval(values["low"], values["high"])
    if p is None:
        return describe_untested(result, name, baseline)
    if result.is_significant():
        side = "ahead of" if difference > 0 else "behind"
        return (
            f"{name} is {side} {baseline} on {task} by {points(abs(difference))} points (95 % interval of the "
            f"difference {between}, Welch {p_equals(p)} after Holm's correction, {count_seeds(result)})."
        )
    needed = values["seeds_needed"]
    hint = f"; about {two_digits(needed)} seeds each would be needed to see such a difference" if needed else ""
    if needed and needed <= min(len(cell.scores), len(result.baseline.scores)):
        hint = ""  # the seeds suffice for one test, but not after the correction
    ranks = values["mann_whitney_p_corrected"]
    by_ranks = (
        f"; by ranks they differ, Mann-Whitney {p_equals(ranks)}" if result.is_significant("mann_whitney_p") else ""
    )
    return (
        f"{name} cannot be distinguished from {baseline} on {task} ({points(difference, sign=True)}, interval "
        f"{between}, {p_equals(p)}, {count_seeds(result)}{by_ranks}{hint})."
    )


def two_digits(count: int) -> int:
    """187 -> 190: the estimate is no more exact than that."""
    return round(count, 2 - len(str(count))) if count > 99 else count


def describe_untested(result: Result, name: str, baseline: str) -> str:
    """A comparison for which Welch's test is undefined: one run on a side, or no spread."""
    task, difference = result.cell.task, result.comparison["difference"]
    if min(len(result.cell.scores), len(result.baseline.scores)) < 2:
        reason = count_seeds(result)
    else:
        reason = "neither has any spread"
    if difference == 0:
        return f"{name} and {baseline} have equal scores on {task} ({reason})."
    more = "more" if difference > 0 else "less"
    scored = f"{name} scores {points(abs(difference))} points {more} than {baseline} on {task}"
    return f"{scored}, which cannot be tested ({reason})."


def count_seeds(result: Result) -> str:
    """10 seeds each, or 9 and 10 seeds: those with a score, of the method and of its baseline."""
    ours, theirs = len(result.cell.scores), len(result.baseline.scores)
    return f"{plural(ours, 'seed')} each" if ours == theirs else f"{ours} and {plural(theirs, 'seed')}"


def describe_spreads(compared: Sequence[Result]) -> list[str]:
    """Who varies less or more over the seeds, by Levene's test: the papers on stability ask for that."""
    sentences = []
    for result in compared:
        if result.is_significant("levene_p") and len(sentences) < MANY:
            ours, theirs = result.summary["std"], result.baseline_summary["std"]
            more = "less" if ours < theirs else "more"
            sentences.append(
                f"{name_cell(result.cell)} varies {more} over the seeds than {name_baseline(result)} on "
                f"{result.cell.task} (standard deviation {points(ours)} and {points(theirs)}, Levene "
                f"{p_equals(result.comparison['levene_p_corrected'])})."
            )
    return sentences


def describe_missing(results: Sequence[Result]) -> list[str]:
    """What is left to say where nothing could be compared."""
    if not any(result.cell.scores for result in results):
        return ["No run has a score yet." if not any(result.cell.rows for result in results) else "No run has a score."]
    if any(result.comparison for result in results):
        return []
    best = []
    for task in dict.fromkeys(result.cell.task for result in results):
        scored = [result for result in results if result.cell.task == task and result.cell.scores]
        if scored:
            top = max(scored, key=lambda result: result.summary["mean"])
            best.append(f"{name_cell(top.cell)} on {task}: {points(top.summary['mean'])} points")
    return [f"Nothing is compared. Highest mean: {'; '.join(best)}."]


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
    """3 of 10 runs of plain on rte failed: not better than the majority class."""
    reasons = Counter(failure_in_words(row) for row in cell.rows if row.failed)
    if len(reasons) == 1:
        (why,) = reasons
    else:
        why = join([f"{reason} ({count})" for reason, count in reasons.items()])
    return f"{cell.failed} of {plural(len(cell.rows), 'run')} of {name_cell(cell)} on {cell.task} failed: {why}."


def failure_in_words(row: Row) -> str:
    """The kind of a failure, without the numbers of the single run."""
    if row.score is None:
        return "loss not finite"
    if "majority baseline" in row.failure:
        return "not better than the majority class"
    if "same prediction" in row.failure:
        return "same prediction for every example"
    if "finite" in row.failure:
        return "output not finite"
    return row.failure or "reason not recorded"


def describe_single_seeds(results: Sequence[Result]) -> str:
    """One seed proves nothing."""
    if all(result.summary["n"] <= 1 for result in results):
        return "Each score comes from one seed. One seed proves nothing: another seed may turn the order around."
    names = [f"{name_cell(result.cell)} on {result.cell.task}" for result in results if result.summary["n"] == 1]
    return f"One seed proves nothing; only one run has a score for {join(names)}."


def duration(seconds: float) -> str:
    """41 seconds, or 3:07 (hours:minutes)."""
    if seconds < 60:
        return plural(round(seconds), "second")
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} (hours:minutes)"

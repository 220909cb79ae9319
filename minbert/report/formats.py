"""How numbers and words look in a report."""

from collections.abc import Sequence

MISSING = "–"


def format_number(value: float | None, digits: int = 2) -> str:
    """A number that is not a score, such as Cohen's d."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def format_cell(value: object) -> str:
    """A cell of a table: a number with four digits, a text as it is."""
    return format_number(value, 4) if value is None or isinstance(value, float) else str(value)


def format_duration(seconds: float) -> str:
    """41 seconds, or 3:07 (hours:minutes)."""
    if seconds < 60:
        return plural(round(seconds), "second")
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} (hours:minutes)"


def plural(count: int, noun: str) -> str:
    """1 run, 2 runs"""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def join(texts: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)

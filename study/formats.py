"""How scores, settings and names look in the report of a study."""

from collections.abc import Sequence

from minbert.report.formats import MISSING
from study.results import Cell, Result


def format_points(value: float | None, sign: bool = False) -> str:
    """A score from 0 to 1 as points, as papers print it: 0.7223 -> 72.23; with a sign +1.20 or −1.20."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"
    if float(text) == 0:
        text = "0.00"  # not -0.00
    return text.replace("-", "−")


def format_interval(low: float | None, high: float | None) -> str:
    """−0.51 to 1.10"""
    return MISSING if low is None or high is None else f"{format_points(low)} to {format_points(high)}"


def format_p_value(p: float | None) -> str:
    """.010, or < .001"""
    if p is None:
        return MISSING
    if p < 0.001:
        return "< .001"
    return f"{p:.3f}".removeprefix("0")


def format_p_equation(p: float) -> str:
    """p = .010, or p < .001"""
    text = format_p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def format_share(value: float | None) -> str:
    """31 %"""
    return MISSING if value is None else f"{100 * value:.0f} %"


def format_setting(value: object) -> str:
    """The value of a setting as a user would write it: 5e-5, true, a list with spaces."""
    if value is None or value == ():
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(map(format_setting, value))
    if isinstance(value, float):
        return format_float(value)
    return str(value)


def format_float(value: float) -> str:
    """With the digits that it needs: 0.1, and a small number as 1.5e-4."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def describe_point(point: dict[str, object], names: Sequence[str] | None = None) -> str:
    """lr 1e-4, epochs 3; with `names`, only these settings."""
    return ", ".join(
        f"{name} {format_setting(value)}" for name, value in point.items() if names is None or name in names
    )


def name_cell(cell: Cell, names: Sequence[str] | None = None) -> str:
    """smart, or smart (lr 1e-4, epochs 3); with `names`, only these settings."""
    point = describe_point(cell.point, names)
    return f"{cell.method} ({point})" if point else cell.method


def name_baseline(result: Result) -> str:
    """The baseline's settings are named only where they differ from the cell's."""
    baseline = result.baseline.cell
    return baseline.method if baseline.point == result.cell.point else name_cell(baseline)

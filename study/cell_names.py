"""The names of cells in a picture."""

from collections.abc import Sequence

from minbert.report.picture_style import label
from study.formats import describe_point, name_cell
from study.results import Cell


def name_lines(cells: Sequence[Cell]) -> tuple[str, list[str]]:
    """The title of a picture and the name of each cell in it. What all cells share is in the title alone."""
    task, names = cells[0].task, varied_settings(cells)
    if len(cells) > 1 and len({cell.method for cell in cells}) == 1:
        return label(f"{cells[0].method} on {task}"), [label(describe_point(cell.point, names)) for cell in cells]
    return label(task), [label(name_cell(cell, names)) for cell in cells]


def varied_settings(cells: Sequence[Cell]) -> list[str]:
    """The settings that have several values in these cells, in order of first appearance. A missing one is a value."""
    names = dict.fromkeys(name for cell in cells for name in cell.point)
    return [name for name in names if len({repr(cell.point.get(name)) for cell in cells}) > 1]

"""What the artists of a picture show, in the coordinates of its data."""

from pathlib import Path

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from minbert.report.picture_style import save_picture


def crosses_and_dots(figure: Figure) -> list[PathCollection]:
    return [artist for artist in figure.axes[0].collections if isinstance(artist, PathCollection)]


def points_of(figure: Figure, color: str) -> np.ndarray:
    """The positions [N,2] of the points with this colour, in the coordinates of the data."""
    found = [np.zeros((0, 2))]
    for artist in crosses_and_dots(figure):
        in_data = artist.get_offset_transform() == figure.axes[0].transData
        if in_data and len(artist.get_facecolors()) and to_hex(artist.get_facecolors()[0]) == color.lower():
            found.append(np.asarray(artist.get_offsets()))
    return np.concatenate(found)


def lines_of(figure: Figure, axes: int = 0) -> list[np.ndarray]:
    """The points [N,2] of each line."""
    return [np.asarray(line.get_xydata()) for line in figure.axes[axes].get_lines()]


def draw(figure: Figure, folder: Path) -> Figure:
    """Save the picture, which places all labels."""
    save_picture(figure, folder / "picture")
    return figure

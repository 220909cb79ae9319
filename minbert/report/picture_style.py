"""The style that the pictures of minbert.report, study/ and papers/ share, and how a picture is saved.

Each picture is a matplotlib Figure that belongs to nothing else (no pyplot), so nothing is left behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import LogLocator, NullFormatter

from minbert.files import write_file

WIDTH = 7.0  # inches. 700 pixels of a README show it at 100 pixels an inch, where a font of 9 pt is 12 pixels high.
INK, GREY = "#222222", "#767676"
FAILED, PAPER = "#C1121F", "#7A2E8E"  # crosses of failed runs; the paper's own numbers
# Okabe and Ito's colours, which readers of all kinds of colour vision can tell apart. Yellow is too pale on white, and
# a grey takes its place. After 8 methods the colours repeat with other markers and dashes.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8A8A8A")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "h", "*", "X", "p", "d")  # 13, so that colour and marker drift apart
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
LONGEST_NAME = 42  # characters in a picture; the tables have the whole name

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on all machines
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "text.parse_math": False,  # a $ in a name is a letter
    "axes.formatter.useoffset": False,
    "svg.fonttype": "path",  # letters as outlines: they look the same where the font is missing
    "svg.hashsalt": "minbert",  # the ids in an SVG file are random otherwise
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with this file's settings in place of the user's matplotlibrc, and put those back."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save_picture(figure: Figure, path: Path) -> None:
    """Write path.png and path.svg, each whole or not at all. The same picture gives the same bytes: no date in them.

    The figure comes from new_figure(), and can be saved once: then its layout is fixed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        # Finding room for the labels takes much of the time, and each savefig would do it twice.
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine(None)
        png, svg = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
        write_file(png, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))
        write_file(svg, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, which finds room for its labels when it is saved."""
    # The resolution of the PNG file. The widths of letters change a little with it, so the layout has to know it.
    return Figure(figsize=(width, height), dpi=200, layout="constrained", facecolor="white")


def make_logarithmic(axis: Axis) -> None:
    """A logarithmic scale around what is drawn, with plain numbers as labels.

    matplotlib's own labels, 10^-2, need the $ that this style shows as a letter.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def line_style(index: int) -> dict:
    """Colour, marker and dashes of the line with this index."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLORS) % len(DASHES)],
    }


def label(text: str) -> str:
    """A name as a picture can show it: shortened, and with a question mark for a letter that the font does not have."""
    font = get_font(findfont("DejaVu Sans"))
    text = "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in text)
    if len(text) > LONGEST_NAME:
        text = f"{text[: LONGEST_NAME // 2]}…{text[-LONGEST_NAME // 2 + 1 :]}"
    return text


def add_legend(figure: Figure, handles: Sequence[object]) -> None:
    """A legend below the axes, with as many columns as fit beside each other."""
    if handles:
        longest = max(len(handle.get_label()) for handle in handles)
        columns = max(1, int((figure.get_figwidth() - 0.2) / (0.6 + 0.083 * longest)))
        rows = -(-len(handles) // columns)
        columns = -(-len(handles) // rows)  # equally long rows
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6)

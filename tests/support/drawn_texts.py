"""Where a picture has its texts."""

import io

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from minbert.report.picture_style import style


def drawn_texts(figure: Figure, kind: str, monkeypatch) -> list[tuple[str, Bbox]]:
    """(text, its rectangle as a share of the page) of each text that the picture has in a file of this kind."""
    drawn, draw_text = [], Text.draw

    def record(text: Text, renderer) -> None:
        if text.get_visible() and text.get_text():
            box = text.get_window_extent(renderer).transformed(figure.transFigure.inverted())
            drawn.append((text.get_text(), box))
        draw_text(text, renderer)

    with style(), monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.savefig(io.BytesIO(), format=kind)
    return drawn

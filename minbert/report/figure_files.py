"""FigureFiles: the files of a figure or a report. Tables as TSV, pictures as PNG and SVG, each whole or not at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from minbert.files import write_text
from minbert.report.picture_style import save_picture
from minbert.report.texts import visible


class FigureFiles:
    """The files of one figure, in one folder: tables as TSV, pictures as PNG and SVG."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.written: list[Path] = []

    def write_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write name.tsv. Floats have six significant digits, None and NaN are empty."""
        lines = ["\t".join(map(tsv_value, row)) for row in (columns, *rows)]
        path = self.folder / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(line + "\n" for line in lines))
        self.written.append(path)

    def write_picture(self, name: str, figure: Figure) -> None:
        """Write name.png and name.svg. The figure is from picture_style.new_figure."""
        save_picture(figure, self.folder / name)
        self.written.append(self.folder / f"{name}.png")


def tsv_value(value: object) -> str:
    """1.23457e-05 for a float, nothing for None and NaN. A tab or a line end in a text is written as \\t or \\n."""
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))

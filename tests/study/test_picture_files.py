"""A study's pictures as files: bytes, layout and texts."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from support.drawn_artists import draw
from support.drawn_texts import drawn_texts
from support.study_cells import make_cell, make_grid, make_row, rte_results

from minbert.errors import escape
from minbert.report.picture_style import COLORS, FAILED, INK, line_style, save_picture
from study.comparisons import measure_cells
from study.curves import best_figure, curve_figure, loss_figure
from study.pictures import box_figure, heat_figures
from study.results import Cell, Result

pytestmark = pytest.mark.filterwarnings("error")


def test_nothing_to_draw_gives_no_picture(tmp_path):
    rows = [make_row(tmp_path, "plain", 0, None)]
    (rows[0].folder / "log.jsonl").unlink()
    for cell in (make_cell(rows), Cell("rte", "plain", {})):
        results = measure_cells([cell], {})
        assert box_figure(results) is curve_figure(results) is loss_figure(results) is best_figure(results) is None
        assert heat_figures(results) == []


def all_figures(results: list[Result]) -> Iterator[Figure]:
    """Each kind of picture."""
    yield from (box_figure(results), curve_figure(results), loss_figure(results), best_figure(results))
    yield from (figure for _, figure in heat_figures(results))


def test_the_same_scores_give_the_same_bytes(tmp_path):
    results = [*rte_results(tmp_path / "rte"), *measure_cells(make_grid(tmp_path / "grid")[:6], {})]
    for i, (first, second) in enumerate(zip(all_figures(results), all_figures(results))):
        save_picture(first, tmp_path / f"{i}-a")
        save_picture(second, tmp_path / f"{i}-b")
        for kind in ("png", "svg"):
            assert (tmp_path / f"{i}-a.{kind}").read_bytes() == (tmp_path / f"{i}-b.{kind}").read_bytes()
        assert b"<dc:date>" not in (tmp_path / f"{i}-a.svg").read_bytes()
        assert b"Software" not in (tmp_path / f"{i}-a.png").read_bytes()


def test_saving_leaves_only_the_two_files(tmp_path):
    save_picture(box_figure(rte_results(tmp_path / "runs")), tmp_path / "new" / "folder" / "x.y")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["x.y.png", "x.y.svg"]
    ET.parse(tmp_path / "new" / "folder" / "x.y.svg")
    assert imread(tmp_path / "new" / "folder" / "x.y.png").shape[1] == 1400  # 7 inches


def test_the_users_settings_of_matplotlib_have_no_effect_and_stay(tmp_path):
    results = rte_results(tmp_path)
    save_picture(box_figure(results), tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "red", "lines.linewidth": 9}):
        save_picture(box_figure(results), tmp_path / "b")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def many_methods(folder: Path, names: list[str]) -> list[Result]:
    cells = []
    for i, name in enumerate(names):
        scores = [0.6 + 0.01 * i + 0.005 * seed for seed in range(4)]
        rows = [make_row(folder / str(i), escape(name).replace("/", "-")[:30], s, x) for s, x in enumerate(scores)]
        cells.append(make_cell([replace(row, method=name) for row in rows], method=name))
    return measure_cells(cells, dict.fromkeys(names[1:], names[0]))


def test_no_text_overlaps_with_twelve_long_names(tmp_path, monkeypatch):
    results = many_methods(tmp_path, [f"{'a-method-name'}-{i:06d}" for i in range(12)])
    assert len(results[0].cell.method) == 20
    figures = [draw(figure, tmp_path) for figure in all_figures(results)]
    for figure, kind in itertools.product(figures, ("png", "svg")):
        boxes = drawn_texts(figure, kind, monkeypatch)
        assert len([text for text, _ in boxes if text.startswith("a-method")]) == 12
        for i, (_, box) in enumerate(boxes):
            assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1
            assert not any(box.overlaps(other) for _, other in boxes[i + 1 :])
        assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 9


def test_both_files_of_a_picture_have_one_layout(tmp_path, monkeypatch):
    """The layout is found once, and stays as it is while the two files are written."""
    figure, positions = box_figure(rte_results(tmp_path)), []
    executed = []
    engine = figure.get_layout_engine()
    monkeypatch.setattr(engine, "execute", lambda figure: executed.append(type(engine).execute(engine, figure)))
    before, savefig = figure.axes[0].get_position().bounds, figure.savefig

    def record(*arguments, **options) -> None:
        savefig(*arguments, **options)
        positions.append(figure.axes[0].get_position().bounds)

    monkeypatch.setattr(figure, "savefig", record)
    save_picture(figure, tmp_path / "picture")
    assert len(executed) == 1 and len(positions) == 2
    assert positions[0] == positions[1] != before


def test_thirteen_lines_look_different():
    looks = {(look["color"], look["marker"], str(look["linestyle"])) for look in map(line_style, range(13))}
    assert len(looks) == 13
    assert len(set(COLORS)) == 8 and FAILED not in COLORS and INK not in COLORS


def test_odd_names_are_drawn_without_a_warning(tmp_path, monkeypatch):
    names = ["plain", "_hidden", r"$\frac$ and", "日本語", "a" * 300, "a\nb", "%d {x} \\"]
    results = many_methods(tmp_path / "runs", names)
    for figure in (box_figure(results), best_figure(results)):
        texts = [text.strip() for text, _ in drawn_texts(draw(figure, tmp_path), "svg", monkeypatch)]
        assert {"plain", "_hidden", r"$\frac$ and", "???", "a?b", "%d {x} \\"} <= set(texts)
        assert max(map(len, texts)) <= 42

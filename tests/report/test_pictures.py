"""minbert/report/pictures.py: what the artists of each picture show, and the files."""

import base64
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.drawn_texts import drawn_texts
from support.report_pages import Page, files_of, report

from minbert.report.curves import Quantity
from minbert.report.picture_style import COLORS, save_picture
from minbert.report.pictures import calibration_figure, confusion_figure, curves_figure, scatter_figure
from minbert.report.scores import calibration, calibration_error

pytestmark = pytest.mark.filterwarnings("error")


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def check_layout(figure: Figure, folder, monkeypatch) -> None:
    """Draw it: all text is on the page, can be read at 700 pixels, and no text lies on another."""
    save_picture(figure, folder / "picture")
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 9
    boxes = drawn_texts(figure, "png", monkeypatch)
    for i, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1, text
        assert not any(box.overlaps(other) for _, other in boxes[i + 1 :]), text


def test_each_run_is_a_line_of_each_panel(tmp_path, monkeypatch):
    loss, dev, penalty = Quantity("loss"), Quantity("dev_score"), Quantity("penalty", "smart.smoothness")
    curves = {"a" * 60: {loss: {10: 0.5, 20: 0.25}, dev: {1: 0.5}, penalty: {10: 1e-4, 20: 3e-4}},
              "b": {loss: {10: 0.75, 30: 0.5}, dev: {1: 0.625, 2: 0.75}}}  # fmt: skip
    figure = curves_figure(curves, [loss, dev, penalty])
    panels = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["training loss", "dev score", "penalty smart.smoothness"]
    assert [axes.get_xlabel() for axes in panels] == ["step", "epoch", "step"]
    lines = [[line.get_xydata().tolist() for line in axes.get_lines()] for axes in panels]
    assert lines == [
        [[[10, 0.5], [20, 0.25]], [[10, 0.75], [30, 0.5]]],
        [[[1, 0.5]], [[1, 0.625], [2, 0.75]]],
        [[[10, 1e-4], [20, 3e-4]], []],
    ]
    for axes in panels:
        assert [line.get_color() for line in axes.get_lines()] == list(COLORS[:2])
    (legend,) = figure.legends
    assert [len(text.get_text()) for text in legend.get_texts()] == [42, 1]
    check_layout(figure, tmp_path, monkeypatch)


def test_one_epoch_is_a_point_at_a_whole_number():
    figure = curves_figure({"a": {Quantity("dev_score"): {3: 0.5}}}, [Quantity("dev_score")])
    figure.canvas.draw()
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert ticks == [3] and figure.axes[0].get_lines()[0].get_marker() == "o"


@pytest.mark.parametrize("classes", [2, 3, 12, 13, 60])
def test_a_confusion_matrix_has_a_field_for_each_pair(classes, tmp_path, monkeypatch):
    counts = np.arange(classes**2).reshape(classes, classes)
    names = [f"class {i} with a long name" for i in range(classes)]
    figure = confusion_figure(counts, names, "x dev")
    (image,) = figure.axes[0].get_images()
    np.testing.assert_allclose(np.asarray(image.get_array()), counts / counts.sum(1, keepdims=True))
    texts = [text.get_text() for text in figure.axes[0].texts]
    if classes <= 12:
        assert texts[1] == f"1\n{100 / counts[0].sum():.0f} %" and len(texts) == classes**2
    else:
        assert texts == []
    assert len(figure.axes[0].get_yticklabels()) == classes or classes > 40
    if classes in (3, 12):
        check_layout(figure, tmp_path, monkeypatch)


def test_a_class_without_examples_has_an_empty_row():
    figure = confusion_figure(np.array([[0, 0], [1, 3]]), ["no", "yes"], "x")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0\n0 %", "0\n0 %", "1\n25 %", "3\n75 %"]


def test_a_reliability_diagram_has_a_point_for_each_bin(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 50)
    bins = calibration(probabilities, rng.integers(0, 3, 50))
    figure = calibration_figure(bins, calibration_error(bins), "x dev")
    upper, lower = figure.axes
    filled = [bin for bin in bins if bin.number]
    diagonal, points = upper.get_lines()
    assert points.get_xydata().tolist() == [[bin.confidence, bin.accuracy] for bin in filled]
    assert diagonal.get_xydata().tolist() == [[0.3, 0.3], [1, 1]]
    assert [bar.get_height() for bar in upper.patches] == [bin.accuracy for bin in filled]
    assert [bar.get_height() for bar in lower.patches] == [bin.number for bin in filled]
    assert any(f"expected calibration error {calibration_error(bins):.3f}" in text for text in texts_of(figure))
    check_layout(figure, tmp_path, monkeypatch)


@pytest.mark.parametrize("predictions", [[0.5, 4.0, 2.0], [3.0, 3.0, 3.0], [-7.0, 90.0, 1e6]])
def test_a_scatter_plot_has_a_point_for_each_example(predictions):
    labels = np.array([0.0, 5.0, 2.5])
    figure = scatter_figure(labels, np.array(predictions), "Pearson 0.1234, Spearman 0.5", "x dev")
    (points,) = figure.axes[0].collections
    assert np.asarray(points.get_offsets()).tolist() == [list(pair) for pair in zip(labels, predictions)]
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()
    assert "x dev\nPearson 0.1234, Spearman 0.5" in texts_of(figure) and not points.get_rasterized()


def test_equal_labels_and_predictions_and_very_many_points_are_drawn(tmp_path, monkeypatch):
    many = np.zeros(6000)
    figure = scatter_figure(many, many, "Pearson 0, Spearman 0", "x dev")
    assert figure.axes[0].collections[0].get_rasterized()
    check_layout(figure, tmp_path, monkeypatch)
    assert (tmp_path / "picture.svg").stat().st_size < 200_000


def test_the_page_needs_no_other_file_and_the_same_run_gives_the_same_files(pairs, tmp_path):
    """With all pictures drawn."""
    for name in ("a", "b"):
        assert report(pairs, "--out", tmp_path / name) == 0
    page = Page(tmp_path / "a" / "report.html")
    assert len(page.addresses) == 2 and "script" not in page.tags and "refresh" not in page.text
    for address in page.addresses:
        head, _, data = address.partition(",")
        assert head == "data:image/svg+xml;base64" and ET.fromstring(base64.b64decode(data)).tag.endswith("svg")
    for name in files_of(tmp_path / "a") - {"report.html"}:  # the page has the command
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

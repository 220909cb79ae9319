"""minbert/report/document.py: the blocks of a report in three formats."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from minbert.report.document import Code, Heading, Items, Paragraph, Picture, Table, to_html
from study.latex import to_latex
from study.markdown import to_markdown

HOSTILE = r"""a|b <script>&amp; 50 % of $x_1$ *no* [link](u) `c` \ # {y}~^ "q" 'r'"""


class Reader(HTMLParser):
    """The text of a page by element, and the addresses that it refers to."""

    def __init__(self):
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data", "srcset", "action")]

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def read_html(blocks, folder=Path()) -> Reader:
    reader = Reader()
    reader.feed(to_html(blocks, "title", folder))
    return reader


def unescape_markdown(text: str) -> str:
    """CommonMark section 2.4: a backslash before ASCII punctuation is removed."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def markdown_cells(line: str) -> list[str]:
    """The cells of one row of a GitHub table, which a | without a backslash before it separates."""
    return [unescape_markdown(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_markdown_table_has_the_same_cells_again():
    table = Table(["name", "mean", "c"], [["x|y", "−1.20", ""], ["long_name of a method", "3", "|"]], "lrr")
    header, ruler, *rows = to_markdown([table]).splitlines()
    assert markdown_cells(header) == ["name", "mean", "c"]
    assert [cell[0] + cell[-1] for cell in markdown_cells(ruler)] == [":-", "-:", "-:"]
    assert [markdown_cells(row) for row in rows] == [list(row) for row in table.rows]
    assert len({len(line) for line in (header, ruler, *rows)}) == 1  # padded to equal lengths


@pytest.mark.parametrize("text", [HOSTILE, "_x_ and a_b", "a  \n b", "**", "~~x~~", "x &lt; y"])
def test_markdown_text_is_escaped(text):
    written = to_markdown([Paragraph(text)]).rstrip("\n")
    assert unescape_markdown(written) == " ".join(text.split())
    without_escapes = re.sub(r"\\[!-/:-@\[-`{-~]", "", written)
    assert not re.search(r"[*`\[\]|$~]|<[A-Za-z/!?]|&\w+;|(?<!\w)_|_(?!\w)", without_escapes)


@pytest.mark.parametrize("text", ["# no heading", "- no item", "+ no item", "> no quotation", "1. no number", "12) no"])
def test_the_start_of_a_markdown_line_makes_no_block(text):
    for block in (Paragraph(text), Items([text])):
        written = to_markdown([block]).rstrip("\n").removeprefix("- ")
        assert not re.match(r"#|[-+>]|\d+[.)]", written)
        assert unescape_markdown(written) == text


def test_plain_numbers_and_names_stay_readable_in_markdown():
    text = "no_correction: −0.51 to 1.10, p < .001 & more (95 % of 10 runs)"
    assert to_markdown([Paragraph(text)]) == text + "\n"


def test_a_markdown_code_block_can_hold_backticks():
    written = to_markdown([Code("a\n```\nb")])
    assert written == "````\na\n```\nb\n````\n"


def test_html_text_is_escaped():
    table = Table([HOSTILE], [[HOSTILE]], "l", HOSTILE)
    reader = read_html([Heading(HOSTILE), Paragraph(HOSTILE), Items([HOSTILE]), table, Code(HOSTILE)])
    for tag in ("h2", "p", "li", "th", "td", "caption", "code"):
        assert "".join(reader.texts[tag]) == HOSTILE
    assert "script" not in reader.tags


def test_html_aligns_the_columns():
    page = to_html([Table(["a", "b"], [["1", "2"]], "lr")], "title", Path())
    assert '<td class="l">1</td><td class="r">2</td>' in page


def test_html_has_the_pictures_in_itself(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "x.svg").write_text("<svg/>", encoding="utf-8")
    reader = read_html([Picture(Path("pictures/x.png"), "caption", HOSTILE)], tmp_path)
    assert reader.addresses == ["data:image/svg+xml;base64,PHN2Zy8+"]  # base64 of <svg/>
    assert reader.texts["figcaption"] == ["caption"]


def test_html_is_legible_in_the_light_and_in_the_dark():
    page = to_html([], "title", Path())
    assert "prefers-color-scheme: dark" in page and "color-scheme: light dark" in page
    assert "url(" not in page and "@import" not in page


def test_latex_text_is_escaped():
    table = Table(["a_b", "50 %"], [["[x] & y", "−1.2 ± 3"], [r"{$#~^\<>|", "…"]], "lr", "10 % of x_1")
    written = to_latex(table)
    assert r"\caption{10 \% of x\_1}" in written
    assert r"a\_b & 50 \% \\" in written
    assert r"{[}x] \& y & $-$1.2 $\pm$ 3 \\" in written
    assert (
        r"\{\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}\textgreater{}\textbar{} & \ldots{} \\"
        in written
    )
    braces = re.findall(r"(?<!\\)[{}]", written)
    assert braces.count("{") == braces.count("}") and written.isascii()
    rules = re.findall(r"\\(?:begin\{tabular\}\{lr\}|toprule|midrule|bottomrule|end\{tabular\})", written)
    assert rules == [r"\begin{tabular}{lr}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]


def test_a_row_of_the_wrong_length_is_an_error():
    with pytest.raises(ValueError, match="2 columns"):
        Table(["a", "b"], [["1"]], "lr")
    with pytest.raises(ValueError, match="2 columns"):
        Table(["a", "b"], [["1", "2"]], "l")

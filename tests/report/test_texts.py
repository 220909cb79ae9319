"""Texts of data in a report: one cell stays one cell, and nothing of it becomes markup or a command to a terminal."""

import random
import sys

import pytest

from minbert.report.document import Table, to_html
from minbert.report.figure_files import FigureFiles, tsv_value
from minbert.report.texts import LONGEST, cut, unique_file_name, visible


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x1b[31m\x00\x7f\x85", r"\x1b[31m\x00\x7f\x85"),
        ("\u202edog\u2066\u2028", r"\u202edog\u2066\u2028"),
        ("\ud800", r"\ud800"),
        ("שלום 👩‍👩‍👧 e\u0301\u200c\u00a0", "שלום 👩‍👩‍👧 e\u0301\u200c\u00a0"),
    ],
)
def test_control_characters_become_visible_and_letters_stay(text, shown):
    assert visible(text) == shown


def random_text(rng: random.Random) -> str:
    """Of characters below 256, among which the control characters are, and of all others, surrogates included."""
    ends = (256, sys.maxunicode + 1)
    return "".join(chr(rng.randrange(ends[rng.randrange(2)])) for _ in range(rng.randrange(30)))


@pytest.mark.parametrize("seed", range(5))
def test_a_visible_text_is_one_line_of_utf8(seed):
    rng = random.Random(seed)
    for _ in range(200):
        shown = visible(random_text(rng))
        assert shown.encode().decode() == shown and "\t" not in shown
        assert len(shown.splitlines()) <= 1 and visible(shown) == shown


@pytest.mark.parametrize("size", [0, 1, 300])
def test_any_texts_are_a_table_of_two_columns(tmp_path, size):
    rng = random.Random(size)
    rows = [[random_text(rng), random_text(rng)] for _ in range(size)]
    files = FigureFiles(tmp_path)
    files.write_table("x/texts", ["a\t", "b"], rows)
    lines = (files.folder / "x" / "texts.tsv").read_bytes().decode().split("\n")
    assert len(lines) == len(rows) + 2 and lines[0] == "a\\t\tb"
    assert [line.split("\t") for line in lines[1:-1]] == [[tsv_value(cell) for cell in row] for row in rows]


def test_a_long_text_is_cut():
    assert cut("a" * LONGEST) == "a" * LONGEST
    assert cut("a" * (LONGEST + 1)) == "a" * (LONGEST - 1) + "…"


def test_long_texts_wrap_and_show_their_own_direction():
    page = to_html([Table(["text"], [["<b>שלום</b>"]], "t")], "title", None)
    assert '<td class="t" dir="auto">&lt;b&gt;שלום&lt;/b&gt;</td>' in page and ".t { " in page


def test_a_page_reloads_itself_only_if_it_says_so():
    assert '<meta http-equiv="refresh" content="5">' in to_html([], "title", None, 5.0)
    assert '<meta http-equiv="refresh" content="1">' in to_html([], "title", None, 0.2)
    assert "refresh" not in to_html([], "title", None)


def test_names_of_files_are_plain_and_never_the_same():
    taken: set[str] = set()
    names = [unique_file_name(name, taken) for name in ("a b", "../a", "a/b", "A-B", "日本")]
    assert names == ["a-b", "..-a", "a-b-2", "A-B-3", "-"]

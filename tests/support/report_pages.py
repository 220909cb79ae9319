"""Readers of the page and the tables that minbert.report writes."""

from html.parser import HTMLParser
from pathlib import Path

from minbert.report.__main__ import main


class Page(HTMLParser):
    """The tags, addresses and cells of report.html."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data.strip("\n")


def read_tsv(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by column."""
    header, *rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert all(len(row) == len(header) for row in rows)
    return [dict(zip(header, row)) for row in rows]


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def report(*argv: object) -> int:
    return main([*map(str, argv), "--device", "cpu"])

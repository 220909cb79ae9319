"""docs/equations.md: where the code has each equation, figure and difference of a paper.

python -m papers.equations  writes the page, from the headers and the tags of all files (papers/tags.py). The figures
and tables of a script are those that the first paragraph of its header names.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from minbert.command_line import Parser, run_program
from minbert.files import write_text
from papers.tags import cited_paper, definitions, split_header, tagged_lines

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "equations.md"
COMMAND = "python -m papers.equations"
HEAD = f"""# Equations and figures of the papers in the code

For a reader with a paper open: the lines of code of each equation, section (§), line of an algorithm, figure and table.
Equations (m1), (m2), ... are numbered by us, because their paper does not number them. D1, D2, ... are differences
between the paper and the linked file, whose header has the full text. `{COMMAND}` makes this page.
"""
FILES = ("minbert/**/*.py", "regularizers/*.py", "papers/*/*.py")  # encoder, methods, scripts of figures
NUMBER = r"\d+(?:\s\([a-z, ]+\))?"  # 4 or 2 (a, b)
FIGURES = re.compile(rf"\b(?:Figure|Table)s?\s{NUMBER}(?:(?:,\s(?:and\s)?|\sand\s|\sto\s){NUMBER})*")


class Entry(NamedTuple):
    """A row of the page: a tag or a figure of a paper, what it says, and the lines of a file that have it."""

    paper: str
    tag: str
    text: str
    path: Path
    lines: Sequence[int]


def source_files() -> list[Path]:
    """The files that the page is made of."""
    return [path for pattern in FILES for path in sorted(ROOT.glob(pattern))]


def read_entries(path: Path) -> Iterator[Entry]:
    """The figures that a header names, then its definitions."""
    header, _ = split_header(path)
    first = header.split("\n\n")[0]
    for figures in FIGURES.finditer(first):
        line = header.count("\n", 0, figures.start()) + 1
        text = re.sub(r"^(Figure|Table)[^:]*: ", "", first_sentence(first))  # the row begins with the figure anyway
        for name in figure_names(" ".join(figures[0].split())):
            yield Entry(cited_paper(header), name, text, path, [line])
    lines = tagged_lines(path)
    for paper, tag, text in definitions(header):
        in_words = tag[0] == "D" or tag[1] == "§"
        yield Entry(paper, tag, first_sentence(text) if in_words else formula(text), path, lines.get(tag, []))


def figure_names(figures: str) -> Iterator[str]:
    """Figures 4 to 6 and 8 (a) -> Figure 4, Figure 5, Figure 6, Figure 8 (a)"""
    kind, last = figures.split()[0].removesuffix("s"), 0
    for to, number, part in re.findall(r"(to )?(\d+)( \([a-z, ]+\))?", figures):
        if to:
            yield from (f"{kind} {between}" for between in range(last + 1, int(number)))
        yield f"{kind} {number}{part}"
        last = int(number)


def first_sentence(text: str) -> str:
    """Without its full stop, on one line."""
    return " ".join(re.split(r"(?<=[.?])\s+(?=[^\W\da-z]|[`|])", text)[0].split()).rstrip(".")


def formula(text: str) -> str:
    """The first line, in code style."""
    line = text.partition("\n")[0].replace("`", "")
    return f"`{re.sub(' {3,}', '   ', line)}`"


def make_page(paths: Iterable[Path]) -> str:
    """The text of docs/equations.md: a table for each paper."""
    papers = defaultdict(list)
    for path in paths:
        for entry in read_entries(path):
            papers[entry.paper].append(entry)
    parts = [HEAD]
    for paper in sorted(papers):
        parts.append(f"\n## {paper}\n\n| in the paper | what it says | in the code |\n|---|---|---|\n")
        parts += map(make_row, sorted(papers[paper], key=rank))
    return "".join(parts)


def rank(entry: Entry) -> tuple[int, int]:
    """Equations first, in the order of the files; then figures and tables by their numbers; then differences."""
    kind = "FTD".find(entry.tag[0])  # -1 for an equation
    return kind, int(re.search(r"\d+", entry.tag)[0]) if kind in (0, 1) else 0


def make_row(entry: Entry) -> str:
    """| (2) | R = ... | links to the lines |"""
    file = entry.path.relative_to(ROOT).as_posix()
    texts = [f"{file}:{number}" if number == entry.lines[0] else str(number) for number in entry.lines]
    links = [f"[{text}](../{file}#L{number})" for text, number in zip(texts, entry.lines)]
    text = entry.text.replace("|", "\\|")
    return f"| {entry.tag} | {text} | {', '.join(links)} |\n"


def main(argv: list[str]) -> int:
    """Write the page. Returns the exit status."""
    return run_program(COMMAND, lambda: write_page(argv))


def write_page(argv: list[str]) -> None:
    Parser(COMMAND, description=__doc__).parse_args(argv)
    write_text(PAGE, make_page(source_files()))
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

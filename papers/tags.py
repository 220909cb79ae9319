"""Tags: how a file says which equation, section, line of an algorithm or difference of a paper a line of code is.

A header (module docstring) defines a tag in a line of its own: "  (2)  R(θ) = ...", "  (§3.1)  ...", "  Alg.1 l.6  ..."
or "  D1  ...". The line of code that the definition is about ends in `# (2)`. Numbers with an m, (m1), are ours. A tag
belongs to the paper that the lines above the definitions cite ("Hua et al., NAACL 2021"), otherwise to the first paper
that the header cites.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TAG = r"\((?:m?\d+|§[A-Z\d.]+)\)|\bAlg\.\d+ l\.\d+|\bD\d+\b"
START = re.compile(
    rf"^  ({TAG}) +|  (\(m\d+\))  +", re.MULTILINE
)  # begins a line; (m2) may also follow (m1) in its line
NAME = r"[A-Z][^\W\d_A-Z][\w-]*"  # of an author; ICML is not one
AUTHORS = rf"{NAME}(?: et al\.|(?:, {NAME})*,? (?:and|&) {NAME}|(?:, {NAME})+)"
CITATION = re.compile(rf"({AUTHORS}),? (?:[\w/-]+,? ){{0,3}}\(?((?:19|20)\d\d|Stanford)\b")  # a report has no year


class Definition(NamedTuple):
    """What a header says about a tag."""

    paper: str  # "Hua et al. 2021"
    tag: str  # "(2)"
    text: str  # one or more lines


def split_header(path: Path) -> tuple[str, str]:
    """The module docstring, and the code below it."""
    text = path.read_text(encoding="utf-8")
    found = re.fullmatch(r'"""(.*?)"""(.*)', text, re.DOTALL)
    return (found[1], found[2]) if found else ("", text)


def definitions(header: str) -> Iterator[Definition]:
    """The definitions in a header, in their order."""
    for paragraph in header.split("\n\n"):
        starts = list(START.finditer(paragraph))
        ends = [start.start() for start in starts[1:]] + [len(paragraph)]
        for start, end in zip(starts, ends):
            paper = cited_paper(paragraph[: starts[0].start()]) or cited_paper(header)
            text = re.split(r"\n(?! )", paragraph[start.end() : end])[0]  # up to a line that is not indented
            yield Definition(paper, start[1] or start[2], text.strip())


def cited_paper(text: str) -> str:
    """The first citation of a text, as "Hua et al. 2021" or "Kingma & Ba 2015"; "" where there is none."""
    found = CITATION.search(" ".join(text.split()))
    if not found:
        return ""
    names = re.findall(NAME, found[1])
    authors = " & ".join(names) if len(names) == 2 else f"{names[0]} et al."
    return f"{authors} {found[2]}".removesuffix(" Stanford")


def tagged_lines(path: Path) -> dict[str, list[int]]:
    """{tag: the lines of code whose comment has it}, counted from 1. The header is not searched."""
    header, code = split_header(path)
    lines = defaultdict(list)
    for number, line in enumerate(code.split("\n"), start=header.count("\n") + 1):
        comment = line.partition("  # ")[2]
        for tag in dict.fromkeys(re.findall(TAG, comment)):  # each tag once
            lines[tag].append(number)
    return dict(lines)

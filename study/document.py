"""A report as a list of blocks, and the same blocks as Markdown, as one HTML page, and (tables) as LaTeX.

The text of a block is plain text. Each renderer escapes the characters that its format gives a meaning.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2  # 1 is the title


@dataclass(frozen=True)
class Paragraph:
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Items:
    """A list with a dot before each text."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    alignment: str  # l or r for each column: "lrr"
    caption: str = ""

    def __post_init__(self):
        for row in [self.alignment, *self.rows]:
            if len(row) != len(self.header):
                raise ValueError(f"{row} does not have the {len(self.header)} columns of the header")


@dataclass(frozen=True)
class Picture:
    """A PNG file. Its SVG file has the same name and is what the HTML page shows."""

    path: Path  # relative to the report's folder
    caption: str
    alt: str


@dataclass(frozen=True)
class Code:
    text: str


Block = Heading | Paragraph | Items | Table | Picture | Code


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as GitHub's Markdown."""
    return "\n\n".join(markdown_block(block) for block in blocks) + "\n"


def markdown_block(block: Block) -> str:
    """One block, without a line end after it."""
    match block:
        case Heading():
            return f"{'#' * block.level} {escape_markdown(block.text)}"
        case Paragraph():
            text = escape_markdown_start(escape_markdown(block.text))
            return f"**{text}**" if block.strong else text
        case Items():
            return "\n".join(f"- {escape_markdown_start(escape_markdown(text))}" for text in block.texts)
        case Table():
            table = markdown_table(block)
            return f"{table}\n\n{escape_markdown_start(escape_markdown(block.caption))}" if block.caption else table
        case Picture():
            image = f"![{escape_markdown(block.alt)}](<{block.path.as_posix()}>)"
            return f"{image}\n\n{escape_markdown_start(escape_markdown(block.caption))}" if block.caption else image
        case Code():
            longest = max(map(len, re.findall("`+", block.text)), default=0)
            fence = "`" * max(3, longest + 1)  # longer than any row of backticks in the text
            return f"{fence}\n{block.text}\n{fence}"


def markdown_table(table: Table) -> str:
    """The columns are padded, so that the file can be read as plain text too."""
    cells = [[escape_markdown(text) for text in row] for row in (table.header, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(table.header))]
    rulers = {"l": ":{}-", "r": "-{}:"}
    lines = []
    for row in cells:
        padded = [
            text.rjust(width) if side == "r" else text.ljust(width)
            for text, width, side in zip(row, widths, table.alignment)
        ]
        lines.append(f"| {' | '.join(padded)} |")
    ruler = [rulers[side].format("-" * (width - 2)) for width, side in zip(widths, table.alignment)]
    lines.insert(1, f"| {' | '.join(ruler)} |")
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """One line of text, with a backslash before the characters that would become markup."""
    text = re.sub(r"([\\`*\[\]|$~])", r"\\\1", one_line(text))
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word, as in train_loss, it is no markup
    text = re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)  # the start of an HTML tag; "< .001" is none
    return re.sub(r"&(?=#?\w+;)", r"\\&", text)  # an entity


def escape_markdown_start(text: str) -> str:
    """A backslash before what makes a line a heading, a quotation or a list: "# ", "> ", "- ", "1. "."""
    text = re.sub(r"^([#>+=-])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def one_line(text: str) -> str:
    """All white space becomes one space."""
    return " ".join(text.split())


STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
  color: #1a1a1a; background: #fff; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .8rem; }
h2 { border-bottom: 1px solid #bbb; padding-bottom: .3rem; }
.table { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; font-size: .9rem; color: #444; padding: .4rem 0; caption-side: bottom; }
th, td { padding: .25rem .7rem; white-space: nowrap; }
thead th { border-top: 2px solid; border-bottom: 1px solid; }
tbody tr:last-child td { border-bottom: 2px solid; }
.l { text-align: left; } .r { text-align: right; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { overflow-x: auto; padding: .8rem; background: #f2f2f2; border-radius: 4px; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #161616; }
  caption, figcaption { color: #bbb; }
  h2 { border-color: #555; }
  pre { background: #262626; }
}
"""


def to_html(blocks: Sequence[Block], title: str, folder: Path) -> str:
    """One page that needs no other file: the pictures below `folder` become part of it."""
    body = "\n".join(html_block(block, folder) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape_html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def html_block(block: Block, folder: Path) -> str:
    """One element."""
    match block:
        case Heading():
            return f"<h{block.level}>{escape_html(block.text)}</h{block.level}>"
        case Paragraph():
            text = escape_html(block.text)
            return f"<p><strong>{text}</strong></p>" if block.strong else f"<p>{text}</p>"
        case Items():
            return "<ul>\n" + "\n".join(f"<li>{escape_html(text)}</li>" for text in block.texts) + "\n</ul>"
        case Table():
            return html_table(block)
        case Picture():
            return html_picture(block, folder)
        case Code():
            return f"<pre><code>{html.escape(block.text)}</code></pre>"


def html_table(table: Table) -> str:
    """A table with its caption, in a box of its own that scrolls where the page is narrow."""
    caption = f"<caption>{escape_html(table.caption)}</caption>\n" if table.caption else ""
    head = html_row("th", table.header, table.alignment)
    rows = "\n".join(html_row("td", row, table.alignment) for row in table.rows)
    body = f"<thead>\n{head}\n</thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<div class="table">\n<table>\n{caption}{body}\n</table>\n</div>'


def html_row(tag: str, texts: Sequence[str], alignment: str) -> str:
    """One row of cells of the kind `tag`: th or td."""
    cells = [f'<{tag} class="{side}">{escape_html(text)}</{tag}>' for text, side in zip(texts, alignment)]
    return f"<tr>{''.join(cells)}</tr>"


def html_picture(picture: Picture, folder: Path) -> str:
    """The SVG file as a data URL. As an image of its own its ids cannot collide with those of the other pictures."""
    data = base64.b64encode((folder / picture.path.with_suffix(".svg")).read_bytes()).decode()
    image = f'<img alt="{escape_html(picture.alt)}" src="data:image/svg+xml;base64,{data}">'
    caption = f"\n<figcaption>{escape_html(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>\n{image}{caption}\n</figure>"


def escape_html(text: str) -> str:
    """One line of text for an element or an attribute in quotation marks."""
    return html.escape(one_line(text))


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a row that starts with [ would be read as an option of the line end before it
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\ldots{}",
} | {character: f"\\{character}" for character in "{}$&#%_"}


def to_latex(table: Table) -> str:
    """A table environment with the rules of the package booktabs."""
    header, *rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.header, *table.rows)]
    caption = [rf"\caption{{{escape_latex(table.caption)}}}"] if table.caption else []
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",  # the tables are wide
        r"\setlength{\tabcolsep}{4pt}",
        *caption,
        rf"\begin{{tabular}}{{{table.alignment}}}",
        r"\toprule",
        header,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """One line of text for LaTeX."""
    return "".join(LATEX.get(character, character) for character in one_line(text))

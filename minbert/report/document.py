"""A report as a list of blocks, and the same blocks as one HTML page. (study/ also writes Markdown and LaTeX.)

The text of a block is plain text. Each renderer escapes the characters that its format gives a meaning.
"""

import base64
import html
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
    alignment: str  # of each column: l, r, or t for long texts, whose lines are broken: "lrt"
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
th, td { padding: .25rem .7rem; white-space: nowrap; vertical-align: top; }
thead th { border-top: 2px solid; border-bottom: 1px solid; }
tbody tr:last-child td { border-bottom: 2px solid; }
.l { text-align: left; } .r { text-align: right; }
.t { text-align: start; white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
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


def to_html(blocks: Sequence[Block], title: str, folder: Path, reload_seconds: float | None = None) -> str:
    """One page that needs no other file: the pictures below `folder` become part of it.

    With `reload_seconds` a browser reads the page again and again.
    """
    reload = f'<meta http-equiv="refresh" content="{max(1, round(reload_seconds))}">\n' if reload_seconds else ""
    body = "\n".join(html_block(block, folder) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{reload}<title>{escape_html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
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
    # A text can be of a right-to-left script: dir="auto" finds out, for this cell alone.
    looks = {"l": 'class="l"', "r": 'class="r"', "t": 'class="t" dir="auto"'}
    cells = [f"<{tag} {looks[side]}>{escape_html(text)}</{tag}>" for text, side in zip(texts, alignment)]
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

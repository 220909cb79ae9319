"""The blocks of a report (minbert/report/document.py) as GitHub's Markdown."""

import re
from collections.abc import Sequence

from minbert.report.document import Block, Code, Heading, Items, Paragraph, Picture, Table, one_line


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
    rulers = {"l": ":{}-", "t": ":{}-", "r": "-{}:"}
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
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word, as in train_loss, it is not markup
    text = re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)  # the start of an HTML tag; "< .001" is not one
    return re.sub(r"&(?=#?\w+;)", r"\\&", text)  # an entity


def escape_markdown_start(text: str) -> str:
    """A backslash before what makes a line a heading, a quotation or a list: "# ", "> ", "- ", "1. "."""
    text = re.sub(r"^([#>+=-])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)

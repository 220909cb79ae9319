"""A table of a report (minbert/report/document.py) as LaTeX."""

from minbert.report.document import Table, one_line

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
    alignment = table.alignment.replace("t", "l")
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",  # the tables are wide
        r"\setlength{\tabcolsep}{4pt}",
        *caption,
        rf"\begin{{tabular}}{{{alignment}}}",
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

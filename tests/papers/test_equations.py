"""docs/equations.md: that it is current, that its links are true, and how headers and tags are read."""

import re
from pathlib import Path

import pytest

from papers import equations
from papers.equations import (
    COMMAND,
    FIGURES,
    PAGE,
    ROOT,
    figure_names,
    first_sentence,
    make_page,
    read_entries,
    source_files,
)
from papers.tags import cited_paper, definitions, split_header, tagged_lines

SOURCES = source_files()
SCRIPTS = [path for path in SOURCES if path.is_relative_to(ROOT / "papers") and "def main(" in path.read_text()]
ROW = re.compile(r"^\| ([^|]+) \| .* \| ([^|]*) \|$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)#L(\d+)\)")
RULE = "docs/add-a-method.md shows the form of headers and tags; papers/tags.py says how they are read"

HEADER = '''"""A sample of a header, for the tests.  Hua et al., NAACL 2021, arXiv:2107.04835.

Objective (x the input):
  (1)  min_θ  E[L(f(x; θ), y)]      with a `second` remark
       and a second line
  (m5)  g = ∇ℓ        (m6)  x ← x + η g

Adam.  Kingma & Ba 2015, Algorithm 1:
  Alg.1 l.12  t ← t + 1
  (§A.2)  a warm-up. More about it.

Differences:
  D1  The paper, like Lee et al. 2020, says |g| ≤ 1. Here it is 2
      and more.
  D12  None.
A line that belongs to no difference.
"""

x = 1  # (m6) D1
y = 2  # [B,T] -> [B]  (1) (1)
# (m5) stands in no comment behind code
text = "D12"


def f():
    # D12: a comment of its own line, (§A.2) (m5)
    return x  # Alg.1 l.12
'''


@pytest.fixture
def sample(tmp_path) -> Path:
    path = tmp_path / "sample.py"
    path.write_text(HEADER, encoding="utf-8")
    return path


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == make_page(SOURCES), f"docs/equations.md is not current: run {COMMAND}"


def test_every_link_of_the_page_leads_to_a_line_that_has_the_tag():
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))[1:]
    assert len(rows) > 100
    for tag, cell in rows:
        if tag in ("in the paper", "---"):
            continue
        links = LINK.findall(cell)
        assert links, f"{tag} has no line of code"
        for text, file, number in links:
            lines = (ROOT / file).read_text(encoding="utf-8").split("\n")
            here = lines[int(number) - 1]
            if tag[0] in "FT":  # "Figures 4, 10 to 12" is Figure 11, too; the next line may have its end
                kind, figure = tag.split(maxsplit=1)
                here = " ".join([here, *lines[int(number) : int(number) + 1]])
                assert kind in here and (figure in here or " to " in here), f"{tag} is not in {file}:{number}"
            else:
                assert tag in here, f"{tag} is not in {file}:{number}"
            assert text in (number, f"{file}:{number}")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_tags_of_a_header_are_those_of_the_code(path):
    found = list(definitions(split_header(path)[0]))
    tags = [definition.tag for definition in found]
    assert len(set(tags)) == len(tags), f"{path}: a tag is defined twice"
    assert set(tags) == set(tagged_lines(path)), f"{path}: header and code have other tags. {RULE}"
    assert all(definition.paper for definition in found), f"{path}: the header cites no paper (Hua et al., NAACL 2021)"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_script_has_the_rows_of_its_figures(path):
    figures = [entry for entry in read_entries(path) if entry.tag[0] in "FT"]
    assert figures, f"{path}: name the figure of the paper in the first paragraph of the header"
    page = PAGE.read_text(encoding="utf-8")
    for entry in figures:
        section = page.split(f"\n## {entry.paper}\n")[1].split("\n## ")[0]
        assert f"\n| {entry.tag} |" in section and path.relative_to(ROOT).as_posix() in section


def test_the_scripts_of_a_folder_belong_to_one_paper():
    for folder in {path.parent for path in SCRIPTS}:
        papers = {cited_paper(split_header(path)[0]) for path in SCRIPTS if path.parent == folder}
        assert len(papers) == 1 and "" not in papers, f"{folder.name}: {papers}"


@pytest.mark.parametrize(
    "paper, tag, file",
    [
        ("Vaswani et al. 2017", "(1)", "minbert/attention.py"),
        ("Vaswani et al. 2017", "(2)", "minbert/layers.py"),
        ("Devlin et al. 2019", "Figure 2", "minbert/embeddings.py"),
        ("Ba et al. 2016", "(3)", "minbert/layers.py"),
        ("Hendrycks & Gimpel 2016", "(§2)", "minbert/layers.py"),
        ("Kingma & Ba 2015", "Alg.1 l.4", "minbert/optimizer.py"),
        ("Loshchilov & Hutter 2019", "Alg.2 l.12", "minbert/optimizer.py"),
        ("Mosbach et al. 2021", "(2)", "minbert/optimizer.py"),
        ("Howard & Ruder 2018", "(3)", "minbert/schedules.py"),
        ("Li et al. 2023", "(7)", "regularizers/mine.py"),
        ("Swietojanski et al. 2016", "(m1)", "regularizers/lhuc.py"),
        ("Hua et al. 2021", "D2", "regularizers/noise.py"),
    ],
)
def test_a_reader_of_a_paper_finds_its_equation(paper, tag, file):
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {paper}\n")[1].split("\n## ")[0]
    assert any(row_tag == tag and f"(../{file}#L" in cell for row_tag, cell in ROW.findall(section))


def test_a_definition_has_the_paper_that_its_paragraph_cites(sample):
    found = [(d.tag, d.paper) for d in definitions(split_header(sample)[0])]
    hua, kingma = "Hua et al. 2021", "Kingma & Ba 2015"
    assert found == [("(1)", hua), ("(m5)", hua), ("(m6)", hua), ("Alg.1 l.12", kingma), ("(§A.2)", kingma),
                     ("D1", hua), ("D12", hua)]  # fmt: skip


def test_a_definition_ends_where_its_indentation_ends(sample):
    texts = {definition.tag: definition.text for definition in definitions(split_header(sample)[0])}
    assert texts["D1"] == "The paper, like Lee et al. 2020, says |g| ≤ 1. Here it is 2\n      and more."
    assert texts["D12"] == "None." and texts["(m6)"] == "x ← x + η g" and texts["(§A.2)"] == "a warm-up. More about it."


def test_the_text_of_a_row_is_short(sample):
    texts = {entry.tag: entry.text for entry in read_entries(sample)}
    assert texts["(1)"] == "`min_θ  E[L(f(x; θ), y)]   with a second remark`"
    assert texts["(m5)"] == "`g = ∇ℓ`" and texts["(m6)"] == "`x ← x + η g`"
    assert texts["(§A.2)"] == "a warm-up"
    assert texts["D1"] == "The paper, like Lee et al. 2020, says |g| ≤ 1"
    assert texts["D12"] == "None"


def test_tags_are_found_in_comments_behind_two_spaces_only(sample):
    lines = HEADER.split("\n")
    places = {"(m6)": ["x = 1"], "D1": ["x = 1"], "(1)": ["y = 2"], "D12": ["    # D12"], "(§A.2)": ["    # D12"],
              "(m5)": ["    # D12"], "Alg.1 l.12": ["    return"]}  # fmt: skip
    found = {tag: [lines[number - 1] for number in numbers] for tag, numbers in tagged_lines(sample).items()}
    assert found.keys() == places.keys()
    for tag, starts in places.items():
        assert len(found[tag]) == len(starts) and all(map(str.startswith, found[tag], starts))


@pytest.mark.parametrize(
    "text, paper",
    [
        ("LNSR: Noise Stability.  Hua et al., NAACL 2021, arXiv:2107.04835.", "Hua et al. 2021"),
        ("BERT and PALs: Projected Layers.  Stickland and\nMurray, ICML 2019", "Stickland & Murray 2019"),
        ("LHUC.  Swietojanski, Li and\nRenals, IEEE/ACM TASLP 2016", "Swietojanski et al. 2016"),
        (
            "Improving BERT.  Li, Li, Wang, Wang, Cao, Xu, Dou,\nICASSP 2023.  After Tishby et al. 2000",
            "Li et al. 2023",
        ),
        ("Adam.  Kingma & Ba 2015; Loshchilov & Hutter 2019", "Kingma & Ba 2015"),
        ("As Mosbach et al. (2021) say", "Mosbach et al. 2021"),
        ("Layer-Level Adaptations.  Pandey and Narayan, Stanford.", "Pandey & Narayan"),
        ("A sentence of 2019, and Nothing Else.", ""),
        ("", ""),
    ],
)
def test_citations(text, paper):
    assert cited_paper(text) == paper


@pytest.mark.parametrize(
    "figures, names",
    [
        ("Figure 7", ["Figure 7"]),
        ("Tables 2 and 3", ["Table 2", "Table 3"]),
        ("Figures 4 to 7", ["Figure 4", "Figure 5", "Figure 6", "Figure 7"]),
        ("Figures 9, 11 to 13, and 20", ["Figure 9", "Figure 11", "Figure 12", "Figure 13", "Figure 20"]),
        ("Figures 2 (c), 8 (a, b) and 14", ["Figure 2 (c)", "Figure 8 (a, b)", "Figure 14"]),
    ],
)
def test_each_figure_has_a_name_of_its_own(figures, names):
    assert list(figure_names(figures)) == names
    assert FIGURES.search(f"As in {figures} of (a) 5 papers")[0] == figures


def test_a_sentence_ends_before_a_capital_letter():
    assert first_sentence("ε is 1e-2, e.g. here;\n   see Lee et al. 2020. Σ is a sum. More") == (
        "ε is 1e-2, e.g. here; see Lee et al. 2020"
    )
    assert first_sentence("Which layers differ? Those above.") == "Which layers differ?"


def test_the_page_of_a_small_folder(tmp_path, monkeypatch, capsys):
    """Rows: equations, then figures by number, tables, differences. A bar in a text does not end its cell."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "papers" / "lnsr").mkdir(parents=True)
    script = (
        '"""{} of Hua et al. 2021: what it shows.\n\nMore of Figure 9.\n\n  D1  |a|\n"""\n\nx = 1  # D1\ny = 2  # D1\n'
    )
    for name, figures in {"a": "Figures 10\nand 12 (a)", "b": "Table 3", "c": "Figure 2"}.items():
        (tmp_path / "papers" / "lnsr" / f"{name}.py").write_text(script.format(figures), encoding="utf-8")
    monkeypatch.setattr(equations, "ROOT", tmp_path)
    monkeypatch.setattr(equations, "PAGE", tmp_path / "docs" / "equations.md")
    assert equations.main([]) == 0 and capsys.readouterr().out == "docs/equations.md\n"
    rows = (tmp_path / "docs" / "equations.md").read_text(encoding="utf-8").split("|---|---|---|\n")[1].splitlines()
    assert [row.split(" | ")[0] for row in rows] == [
        "| Figure 2", "| Figure 10", "| Figure 12 (a)", "| Table 3", "| D1", "| D1", "| D1"
    ]  # fmt: skip
    assert rows[0] == "| Figure 2 | what it shows | [papers/lnsr/c.py:1](../papers/lnsr/c.py#L1) |"
    assert rows[4] == (r"| D1 | \|a\| | [papers/lnsr/a.py:9](../papers/lnsr/a.py#L9), [10](../papers/lnsr/a.py#L10) |")


def test_the_command_takes_no_argument(capsys):
    assert equations.main(["--out", "x"]) == 2
    assert capsys.readouterr().err == f"{COMMAND}: unrecognized arguments: --out x\n"

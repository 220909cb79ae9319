"""The report of a study: report.md, report.html, results.csv, summary.json, table.tex and pictures/."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from minbert.files import write_json, write_text
from minbert.report.document import Block, Code, Heading, Items, Paragraph, Picture, Table, to_html
from minbert.report.formats import format_duration, join, plural
from minbert.report.picture_style import save_picture
from minbert.report.texts import unique_file_name
from study import tables
from study.comparisons import measure_cells
from study.curves import MOST_BANDS, best_figure, curve_figure, loss_figure
from study.export import make_summary, results_csv
from study.latex import to_latex
from study.markdown import to_markdown
from study.pictures import box_figure, heat_figures
from study.results import Cell, Result, StudyInfo
from study.summary import summarize_in_words

# A picture with more lines than this cannot be read: a grid then has a picture for each method.
MOST_LINES, MOST_BOXES = 8, 24


def write_report(out: Path, study: StudyInfo, cells: Sequence[Cell]) -> None:
    """Write the report of these cells into the folder `out`. Each file is written whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    results = measure_cells(cells, study.baselines, study.levene)
    write_text(out / "results.csv", results_csv([row for cell in cells if cell.is_whole_run for row in cell.rows]))
    write_json(out / "summary.json", make_summary(study, results))
    blocks = list(report_blocks(study, results, PictureFolder(out)))
    write_text(out / "table.tex", latex_tables(blocks))
    write_text(out / "report.md", to_markdown(blocks))
    write_text(out / "report.html", to_html(blocks, study.name, out))


class PictureFolder:
    """Saves the pictures of a report below out/pictures, each under a name of its own."""

    def __init__(self, out: Path):
        self.out = out
        self.names: set[str] = set()

    def save(self, kind: str, name: str, figure: Figure | None, caption: str) -> Iterator[Picture]:
        """Save a picture and yield its block. No figure gives nothing."""
        if figure is None:
            return
        unique = unique_file_name(f"{kind}-{name}", self.names)
        save_picture(figure, self.out / "pictures" / unique)
        yield Picture(Path("pictures") / f"{unique}.png", caption, f"{kind} of {name}")


def report_blocks(study: StudyInfo, results: Sequence[Result], pictures: PictureFolder) -> Iterator[Block]:
    """The whole report."""
    yield Heading(study.name, level=1)
    if study.runs_finished < study.runs_planned:
        verb = "is" if study.runs_finished == 1 else "are"
        yield Paragraph(f"{study.runs_finished} of {study.runs_planned} runs {verb} finished.", strong=True)
    yield Paragraph(summarize_in_words(results, study.baselines))
    if study.runs_with_errors:
        count = len(study.runs_with_errors)
        yield Paragraph(f"{plural(count, 'run')} ended with an error and {'is' if count == 1 else 'are'} not counted:")
        yield Items([f"{name}: {reason}" for name, reason in study.runs_with_errors])
    for paragraph in re.split(r"\n\s*\n", study.about.strip()):
        if paragraph:
            yield Paragraph(paragraph)
    family = sum(result.comparison is not None for result in results)
    for task in dict.fromkeys(result.cell.task for result in results):
        yield Heading(f"{task} ({study.metrics[task]})" if task in study.metrics else task)
        replaced = [name for name in task.split("+") if name in study.metrics]
        if "+" in task and replaced:
            yield Paragraph(f"The average is of the tasks' own scores, also for {join(replaced)}.")
        of_task = [result for result in results if result.cell.task == task]
        yield from task_blocks(study, of_task, family, pictures)
    yield from closing_blocks(study)


def task_blocks(study: StudyInfo, results: Sequence[Result], family: int, pictures: PictureFolder) -> Iterator[Block]:
    """Tables and pictures of one task."""
    task = results[0].cell.task
    yield tables.score_table(results, study.paper_note)
    for name, group in groups_by_method(results, MOST_BOXES):
        yield from pictures.save("scores", name, box_figure(group), box_caption(group))
    yield from optional_section("Comparison", [tables.comparison_table(results, family, study.levene)])
    yield from optional_section("Train and dev", [tables.gap_table(results)])
    yield from optional_section("Agreement between the runs", [tables.agreement_table(results)])
    yield from optional_section("Training", training_pictures(results, pictures))
    yield from optional_section("Expected best of k runs", best_pictures(results, pictures))
    yield from optional_section("Grid", grid_pictures(task, results, pictures))
    yield from optional_section("Initial weights and order of the data", [tables.variance_table(results)])


def box_caption(results: Sequence[Result]) -> str:
    """What the symbols of a box plot mean, as far as its legend does not say so."""
    caption = "Each dot is a run. A box holds the middle half of the runs, the bar in it is their median."
    if any(row.score is None for result in results for row in result.cell.rows):
        caption += " A cross at the left edge is a failed run without a score."
    return caption


def groups_by_method(results: Sequence[Result], most: int) -> list[tuple[str, list[Result]]]:
    """(name, results) of each picture of one task: one for all, or for more than `most` cells one for each method."""
    task = results[0].cell.task
    methods = list(dict.fromkeys(result.cell.method for result in results))
    if len(results) <= most or len(methods) == len(results):
        return [(task, list(results))]
    return [(f"{task} {method}", [result for result in results if result.cell.method == method]) for method in methods]


def training_pictures(results: Sequence[Result], pictures: PictureFolder) -> Iterator[Block]:
    """Curves, and score against loss."""
    for name, group in groups_by_method(results, MOST_LINES):
        bands = "; bands are one standard deviation" if len(group) <= MOST_BANDS else ""
        caption = f"Means over the runs{method_of(name, group)}{bands}."
        yield from pictures.save("curves", name, curve_figure(group), caption)
    for name, group in groups_by_method(results, MOST_LINES):
        yield from pictures.save("loss", name, loss_figure(group), f"Each point is one run{method_of(name, group)}.")


def best_pictures(results: Sequence[Result], pictures: PictureFolder) -> Iterator[Block]:
    """Dodge et al.'s curves."""
    for name, group in groups_by_method(results, MOST_LINES):
        caption = (
            f"The best of k runs, drawn with replacement from our runs{method_of(name, group)} (Dodge et al. 2019)."
        )
        yield from pictures.save("best", name, best_figure(group), caption)


def grid_pictures(task: str, results: Sequence[Result], pictures: PictureFolder) -> Iterator[Block]:
    """Heat maps."""
    for title, figure in heat_figures(results):
        yield from pictures.save("grid", title, figure, f"Mean scores of {title}; failed runs in brackets.")


def method_of(name: str, results: Sequence[Result]) -> str:
    """The words " of smart" in the caption of a picture of one method only."""
    return "" if name == results[0].cell.task else f" of {results[0].cell.method}"


def optional_section(heading: str, blocks: Iterable[Block | None]) -> Iterator[Block]:
    """Blocks below their heading, or nothing if there are none."""
    content = [block for block in blocks if block is not None]
    if content:
        yield Heading(heading, level=3)
        yield from content


def closing_blocks(study: StudyInfo) -> Iterator[Block]:
    """How to repeat the study."""
    if study.method_settings:
        yield Heading("Settings of each method")
        yield tables.method_table(study.method_settings)
    if study.settings:
        yield Heading("Settings of all runs")
        yield tables.settings_table(study.settings, ("setting", "value"))
    if study.machine:
        yield Heading("Machine and versions")
        yield tables.settings_table(study.machine, ("name", "value"))
    yield Paragraph(
        f"Training time: {format_duration(study.seconds)} in {plural(study.runs_finished, 'finished run')}, without "
        "loading, evaluation and the report."
    )
    yield Heading("Command")
    yield Code(study.command)


def latex_tables(blocks: Sequence[Block]) -> str:
    """The tables of results, without those of settings and versions, which have no caption."""
    with_caption = [to_latex(block) for block in blocks if isinstance(block, Table) and block.caption]
    return "\n".join(["% \\usepackage{booktabs}", *with_caption]) + ("\n" if not with_caption else "")

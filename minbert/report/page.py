"""The report: one page of blocks, its pictures, and its numbers as tables."""

from collections.abc import Iterator
from pathlib import Path

import torch

from minbert.files import write_text
from minbert.report.curves import Curve, Quantity, in_order, run_curves
from minbert.report.document import Block, Code, Heading, Paragraph, Picture, Table, to_html
from minbert.report.figure_files import FigureFiles
from minbert.report.formats import format_cell
from minbert.report.pictures import curves_figure
from minbert.report.reported_run import ReportedRun
from minbert.report.run_section import RunSection
from minbert.report.texts import unique_file_name, visible

OF_TASKS = "curves-of-tasks"


class Report:
    """The report of some runs in one folder. It can be written again while they go on."""

    def __init__(self, runs: dict[str, ReportedRun], out: Path, mistakes: int, device: torch.device, command: str):
        """`mistakes` is how many of them are listed for each dev file. The command is the last line of the page."""
        self.runs, self.out, self.command = runs, out, command
        self.files = FigureFiles(out)
        taken: set[str] = set()
        folders = [Path("runs") / unique_file_name(name, taken) for name in runs] if len(runs) > 1 else [Path()]
        self.sections = {
            name: RunSection(run, self.files, folder, mistakes, device)
            for (name, run), folder in zip(runs.items(), folders)
        }

    def write(self, reload_seconds: float | None = None) -> list[Path]:
        """Write the report of the runs as they are now, and return its files. Each is written whole or not at all.

        Raises OSError if the folder cannot be written, and InputError if a kept model cannot be read.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        title = f"Report of {visible(next(iter(self.runs)))}" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        blocks = [Heading(title, level=1), *self.blocks()]
        self.remove_earlier_files()
        write_text(self.page, to_html(blocks, title, self.out, reload_seconds))
        return [*dict.fromkeys(self.files.written), self.page]

    @property
    def page(self) -> Path:
        return self.out / "report.html"

    @property
    def notes(self) -> list[str]:
        """What the page cannot show, and why. Known when it is written."""
        return [f"{name}: {note}" for name, section in self.sections.items() for note in section.notes]

    def remove_earlier_files(self) -> None:
        """Remove files of an earlier report of these runs that this report does not write: readers would take them for
        its own. Files of other runs' tasks stay.
        """
        written = {path.with_suffix("") for path in self.files.written}
        of_runs = [name for section in self.sections.values() for name in section.possible_names()]
        for name in (OF_TASKS, *of_runs):
            if self.out / name not in written:
                for suffix in (".tsv", ".png", ".svg"):
                    (self.out / f"{name}{suffix}").unlink(missing_ok=True)

    def blocks(self) -> Iterator[Block]:
        yield self.summary()
        for name, run in self.runs.items():
            if run.failure:
                yield Paragraph(f"{visible(name)} failed: {visible(run.failure)}", strong=True)
        yield from self.curve_blocks()
        for name, section in self.sections.items():
            yield Heading(visible(name))
            yield from section.blocks()
        yield Heading("Command")
        yield Code(visible(self.command))

    def summary(self) -> Table:
        """A row for each run."""
        header = ("run", "task", "option", "seed", "state", "steps", "epochs", "dev score")
        rows = [(name, *describe_run(run)) for name, run in self.runs.items()]
        self.files.write_table("runs", [name.replace(" ", "_") for name in header], rows)
        shown = [[visible(text) for text in map(format_cell, row)] for row in rows]
        caption = "The dev score is that of the weights that were kept; while a run goes on, that of its last epoch."
        return Table(header, shown, "lllrlrrr", caption)

    def curve_blocks(self) -> Iterator[Block]:
        """The learning curves of all runs."""
        curves = {name: run_curves(run.log, run.history, run.curve_tasks) for name, run in self.runs.items()}
        rows = [
            (name, quantity.kind, quantity.part, quantity.unit, position, value)
            for name, of_run in curves.items()
            for quantity, curve in of_run.items()
            for position, value in sorted(curve.items())
        ]
        self.files.write_table("curves", ("run", "quantity", "part", "unit", "position", "value"), rows)
        yield Heading("Learning curves")
        if not rows:
            yield Paragraph("The log has no row yet: a run writes one for every ten steps.")
        caption = (
            "Loss and penalties are means over the steps between two rows of the log. Learning rate and gradient norm "
            "(before clipping) are those of the last of these steps. The dev score follows each epoch."
        )
        yield from self.curve_picture("curves", curves, False, caption)
        yield from self.curve_picture(OF_TASKS, curves, True, "The same for each task of several.")

    def curve_picture(
        self, name: str, curves: dict[str, dict[Quantity, Curve]], of_tasks: bool, caption: str
    ) -> Iterator[Block]:
        """The picture of the runs that have such curves; nothing if there are none."""
        chosen = {
            run: {quantity: curve for quantity, curve in of_run.items() if quantity.is_of_one_task == of_tasks}
            for run, of_run in curves.items()
        }
        chosen = {run: of_run for run, of_run in chosen.items() if of_run}
        quantities = in_order({quantity for of_run in chosen.values() for quantity in of_run})
        if quantities:
            self.files.write_picture(name, curves_figure(chosen, quantities))
            yield Picture(Path(f"{name}.png"), caption, "learning curves")


def describe_run(run: ReportedRun) -> tuple[object, ...]:
    """The values of a row of the summary, without the run's name."""
    settings, last = run.settings, run.log[-1] if run.log else {}
    scores = run_curves(run.log, run.history, []).get(Quantity("dev_score"), {})
    if run.is_finished:
        steps, score = run.metrics.get("steps"), run.metrics["score"]
    else:
        steps, score = f"{last.get('step', 0)} of {last.get('steps', '?')}", scores[max(scores)] if scores else None
    return (settings.title, settings.option, settings.seed, run.state, steps, len(scores), score)

"""What a report says about one run: how it scores each class, how sure it is, and its worst mistakes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from minbert import metrics
from minbert.report import pictures, scores
from minbert.report.answers import Answers, read_answers
from minbert.report.document import Block, Heading, Items, Paragraph, Picture, Table
from minbert.report.figure_files import FigureFiles
from minbert.report.formats import format_cell, format_number, plural
from minbert.report.reported_run import ReportedRun
from minbert.report.texts import cut, visible

KINDS = ("confusion", "classes", "calibration", "scatter", "predictions", "mistakes")  # of files


class RunSection:
    """The blocks of one run. Those of a finished run are made once."""

    def __init__(self, run: ReportedRun, files: FigureFiles, folder: Path, mistakes: int, device: torch.device):
        """`folder` is where its files go, below that of the report."""
        self.run, self.files, self.folder, self.mistakes, self.device = run, files, folder, mistakes, device
        self.finished_blocks: list[Block] | None = None
        self.notes: list[str] = []  # what cannot be shown of a finished run, and why

    def blocks(self) -> list[Block]:
        """What can be shown of the run as it is now. Raises InputError if its model cannot be read."""
        if not self.run.is_finished:
            return [Paragraph(f"The run is {self.run.state}: its predictions follow when it is finished.")]
        if self.finished_blocks is None:
            self.finished_blocks = list(self.make_blocks())
        return self.finished_blocks

    def possible_names(self) -> Iterator[Path]:
        """The names, without suffix, of all files that the report of this run can have."""
        for task in self.run.tasks:
            for split in task.splits("dev"):
                yield from (self.folder / f"{kind}-{task.name}-{split}" for kind in KINDS)

    def make_blocks(self) -> Iterator[Block]:
        answers, self.notes = read_answers(self.run, self.device)
        if self.notes:
            yield Items([visible(note) for note in self.notes])
        for of_file in answers:
            title = f"{of_file.task.name} {of_file.split}"
            yield Heading(title, level=3)
            yield Paragraph(describe_scores(of_file))
            name = f"{of_file.task.name}-{of_file.split}"
            if of_file.task.labels:
                yield from self.class_blocks(of_file, name, title)
            else:
                yield from self.regression_blocks(of_file, name, title)
            yield from self.mistake_blocks(of_file, name)

    def class_blocks(self, answers: Answers, name: str, title: str) -> Iterator[Block]:
        """Confusion, scores by class, calibration."""
        names, labels, predictions = answers.task.labels, answers.labels, answers.predictions
        counts = scores.confusion(labels, predictions, len(names))
        self.files.write_table(str(self.folder / f"confusion-{name}"), ["label", *names],
                               [(label, *row) for label, row in zip(names, counts.tolist())])  # fmt: skip
        caption = "Rows: labels. Columns: predictions. Shares are those of the row; dark is a large share."
        yield self.picture(f"confusion-{name}", pictures.confusion_figure(counts, names, title), caption)
        yield self.class_table(scores.class_scores(labels, predictions, names), name)
        if answers.probabilities is None:
            return
        bins = scores.calibration(answers.probabilities, labels)
        error = scores.calibration_error(bins)
        self.files.write_table(str(self.folder / f"calibration-{name}"), scores.Bin._fields, bins)
        caption = (
            f"Expected calibration error {error:.4f}, over {len(bins)} bins of equal width (Guo et al. 2017). "
            "The confidence is the probability of the predicted class. A point below the dashed line: too sure."
        )
        yield self.picture(f"calibration-{name}", pictures.calibration_figure(bins, error, title), caption)

    def class_table(self, rows: list[scores.ClassScores], name: str) -> Table:
        header = scores.ClassScores._fields
        self.files.write_table(str(self.folder / f"classes-{name}"), header, rows)
        shown = [
            [visible(row.label), str(row.number), str(row.predicted),
             *(format_number(value, 4) for value in (row.precision, row.recall, row.f1))]
            for row in rows
        ]  # fmt: skip
        return Table(header, shown, "lrrrrr", "number: examples with this label. predicted: predictions of this label.")

    def regression_blocks(self, answers: Answers, name: str, title: str) -> Iterator[Block]:
        """Predictions against labels."""
        labels, predictions = answers.labels.astype(float), answers.predictions.astype(float)
        rows = [
            (example.line, visible(example.id), label, prediction)
            for example, label, prediction in zip(answers.examples, labels.tolist(), predictions.tolist())
        ]
        self.files.write_table(str(self.folder / f"predictions-{name}"), ("line", "id", "label", "prediction"), rows)
        values = [f"{metric} {metrics.METRICS[metric](predictions, labels):.4f}" for metric in ("pearson", "spearman")]
        figure = pictures.scatter_figure(labels, predictions, ", ".join(values).title(), title)
        yield self.picture(f"scatter-{name}", figure, "A point for each example. On the dashed line both are equal.")

    def mistake_blocks(self, answers: Answers, name: str) -> Iterator[Block]:
        """The examples with the largest losses: of the mistakes for classes, of all for a regression."""
        names, losses = answers.task.labels, answers.losses
        rows = np.flatnonzero(answers.predictions != answers.labels) if names else np.arange(len(answers.labels))
        if not self.mistakes or not len(rows):
            return
        chosen = rows[: self.mistakes].tolist()  # without losses the first ones of the file
        if losses is not None:
            chosen = scores.largest_losses(losses, rows, self.mistakes)
        header = ["line", "id", *(["text", "pair"] if len(answers.task.text) == 2 else ["text"]), "label", "prediction"]
        if answers.probabilities is not None:
            header.append("probability")
        if losses is not None:
            header.append("loss")
        table = [mistake_row(answers, row) for row in chosen]
        self.files.write_table(str(self.folder / f"mistakes-{name}"), header, table)
        shown = [[visible(" ".join(format_cell(cell).split())) for cell in row] for row in table]
        looks = {"text": "t", "pair": "t", "label": "l", "id": "l"}
        alignment = "".join(looks.get(column, "l" if names and column == "prediction" else "r") for column in header)
        yield Table(header, shown, alignment, describe_mistakes(answers, len(rows), len(chosen)))

    def picture(self, name: str, figure: Figure, caption: str) -> Picture:
        """Save a picture."""
        self.files.write_picture(str(self.folder / name), figure)
        return Picture((self.folder / f"{name}.png"), caption, name)


def describe_scores(answers: Answers) -> str:
    """277 examples: accuracy 0.7870 (majority class 0.5162)"""
    majority = metrics.majority_metrics(answers.task, answers.labels)
    values = [
        f"{name} {value:.4f}" + (f" (majority class {majority[name]:.4f})" if answers.task.labels else "")
        for name, value in answers.scores.items()
    ]
    return f"{plural(len(answers.labels), 'example')}: {', '.join(values)}"


def describe_mistakes(answers: Answers, number: int, shown: int) -> str:
    """The caption of the table of mistakes."""
    if not answers.task.labels:
        return f"The {shown} largest squared errors."
    of_all = f"{shown} of {plural(number, 'mistake')}"
    if answers.losses is None:
        return f"{of_all}, in the order of the file."
    return f"{of_all}, the largest cross entropy first. probability: that of the prediction."


def mistake_row(answers: Answers, row: int) -> list[object]:
    """The cells of one example."""
    example, names = answers.examples[row], answers.task.labels
    label, prediction = answers.labels[row].item(), answers.predictions[row].item()
    texts = [example.text, example.pair][: len(answers.task.text)]
    shown = [names[label], names[prediction]] if names else [float(label), prediction]
    cells = [example.line, example.id, *map(cut, texts), *shown]
    if answers.probabilities is not None:
        cells.append(float(answers.probabilities[row, prediction]))
    if answers.losses is not None:
        cells.append(float(answers.losses[row]))
    return cells

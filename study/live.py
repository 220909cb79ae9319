"""What a study shows while it runs. On a terminal: a table, redrawn each second. Elsewhere: a line for each run."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from statistics import fmean

from tqdm import tqdm

from minbert.training.step_lines import read_log
from study.folder import ERROR, FINISHED, RUNNING, StudyFolder
from study.plan import Run

ERASE_LINE_ABOVE = "\x1b[1A\x1b[2K"  # the cursor goes up a line, and the line is cleared


class ProgressDisplay:
    """Shows the states of these runs, and an estimate of the time left for `jobs` runs at a time.

    `output_closed` is called if standard output can no longer be written to.
    """

    def __init__(self, runs: list[Run], folder: StudyFolder, jobs: int, output_closed: Callable[[], object]):
        self.runs, self.folder, self.jobs, self.output_closed = runs, folder, jobs, output_closed
        self.drawn = 0  # lines of the table on the screen
        self.is_terminal = sys.stdout.isatty()
        self.states = {run.name: folder.state(run) for run in runs}
        self.results = {run.name: folder.metrics(run) for run in runs if self.states[run.name] == FINISHED}
        self.given_up: set[str] = set()  # runs that ended with an error: only the next start tries them again

    def run_ended(self, run: Run) -> None:
        """Count a run that has ended, and print its line. On a terminal only errors have a line above the table."""
        state = self.states[run.name] = self.folder.state(run)
        if state == FINISHED:
            self.results[run.name] = self.folder.metrics(run)
            text = describe_result(self.results[run.name])
        else:
            self.given_up.add(run.name)
            text = f"ERROR: {self.folder.error(run)}" if state == ERROR else state
        if state == ERROR or not self.is_terminal:
            self.erase()
            self.write(f"{len(self.results)}/{len(self.runs)} {run.name}: {text}; {self.time_left()}\n")

    def write(self, text: str) -> None:
        try:
            print(text, end="", flush=True)
        except OSError:
            self.is_terminal = False
            self.output_closed()

    def time_left(self) -> str:
        """0:12:30 left"""
        seconds = self.seconds_left()
        return "time left unknown" if seconds is None else f"{tqdm.format_interval(seconds)} left"

    def seconds_left(self) -> float | None:
        """An estimate from the finished runs of the same cell, or else of all cells. None if no run is finished."""
        times: dict[tuple, list[float]] = {}
        for run in self.runs:
            if run.name in self.results:
                times.setdefault(run.cell, []).append(self.folder.wall_seconds(run))
        every = [seconds for of_cell in times.values() for seconds in of_cell]
        left = [run for run in self.runs if run.name not in self.results.keys() | self.given_up]
        if left and not every:
            return None
        expected = [fmean(times.get(run.cell, every)) for run in left]
        return max(sum(expected) / self.jobs, *expected, 0.0)  # one run is not divided between the jobs

    def refresh(self, under_way: list[Run]) -> None:
        """Draw the table again, on a terminal. What does not fit is cut: a line that wraps could not be erased."""
        if not self.is_terminal:
            return
        self.erase()
        self.states |= {run.name: RUNNING for run in under_way}  # not "with an error" any more
        width, height = shutil.get_terminal_size()
        last = [*(self.progress(run) for run in under_way), self.time_left()]
        table = self.table()
        room = max(0, height - 1 - len(last))
        if len(table) > room:
            table = [*table[: max(0, room - 1)], f"... {len(table) - max(0, room - 1)} more lines"][:room]
        lines = [line[: width - 1] for line in [*table, *last]][-max(1, height - 1) :]
        self.write("".join(f"{line}\n" for line in lines))
        self.drawn = len(lines)

    def erase(self) -> None:
        """Remove the table from the screen."""
        if self.drawn:
            self.write(self.drawn * ERASE_LINE_ABOVE)
        self.drawn = 0

    def table(self) -> list[str]:
        """A line for each cell: finished runs, mean score, failed runs, errors."""
        cells: dict[tuple, list[Run]] = {}
        for run in self.runs:
            cells.setdefault(run.cell, []).append(run)
        names = {cell: " ".join([*cell[:2], *(f"{key}={value}" for key, value in cell[2])]) for cell in cells}
        width = max(map(len, names.values()))
        return [self.table_line(names[cell].ljust(width), runs) for cell, runs in cells.items()]

    def table_line(self, name: str, runs: list[Run]) -> str:
        results = [self.results[run.name] for run in runs if run.name in self.results]
        scores = [result["score"] for result in results if result["score"] is not None]
        mean = f"{100 * sum(scores) / len(scores):6.2f}" if scores else "     –"
        failed = sum(result["failed"] for result in results)
        errors = Counter(self.states[run.name] for run in runs)[ERROR]
        notes = [f"{count} {what}" for count, what in ((failed, "failed"), (errors, "with an error")) if count]
        return "  ".join([name, f"{len(results):3}/{len(runs)}", f"mean {mean}", *notes])

    def progress(self, run: Run) -> str:
        """The last line of a run's log."""
        rows = read_log(self.folder.run_folder(run))
        return f"> {run.name}: " + (f"step {rows[-1].get('step')}/{rows[-1].get('steps')}" if rows else "starts")


def describe_result(result: dict) -> str:
    """score 0.7870 (41 s), or why the run failed."""
    if result["score"] is None:
        return f"FAILED: {result['failure']}"
    failed = f", FAILED: {result['failure']}" if result["failed"] else ""
    return f"score {result['score']:.4f} ({result['seconds']:.0f} s){failed}"

"""What a study shows while it runs: on a terminal a table that is drawn again and again, elsewhere a line a run."""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from study.folder import ERROR, FINISHED, StudyFolder
from study.plan import Run, Study

ERASE_LINE_ABOVE = "\x1b[1A\x1b[2K"  # the cursor goes up a line, and the line is cleared


class Live:
    """Shows the runs of a study, or of one shard of it."""

    def __init__(self, study: Study, runs: list[Run], folder: StudyFolder, jobs: int):
        self.study, self.runs, self.folder, self.jobs = study, runs, folder, jobs
        self.drawn = 0  # lines of the table on the screen
        self.is_terminal = sys.stdout.isatty()
        self.states = {run.name: folder.state(run) for run in runs}
        self.results = {run.name: read_result(folder.run_folder(run)) for run in runs if self.is_finished(run)}

    def is_finished(self, run: Run) -> bool:
        return self.states[run.name] == FINISHED

    def tell(self, run: Run) -> None:
        """A run has ended: count it, and print its line where there is no table."""
        state = self.states[run.name] = self.folder.state(run)
        done = sum(self.is_finished(run) for run in self.runs)
        if state == FINISHED:
            self.results[run.name] = read_result(self.folder.run_folder(run))
            text = describe_result(self.results[run.name])
        else:
            text = f"ERROR: {self.folder.error(run)}" if state == ERROR else state
        if state == ERROR or not self.is_terminal:
            self.erase()
            print(f"{done}/{len(self.runs)} {run.name}: {text}; {self.time_left()}", flush=True)

    def time_left(self) -> str:
        """An estimate, from the finished runs of the same method and task, or else of all."""
        seconds = self.seconds_left()
        return "time left unknown" if seconds is None else f"{clock(seconds)} left"

    def seconds_left(self) -> float | None:
        left = [run for run in self.runs if not self.is_finished(run)]
        times: dict[tuple | None, list[float]] = {}
        for run in self.runs:
            if seconds := self.results.get(run.name, {}).get("seconds"):
                times.setdefault(run.cell, []).append(seconds)
                times.setdefault(None, []).append(seconds)
        if left and not times:
            return None
        expected = [times.get(run.cell, times.get(None, [])) for run in left]
        return sum(sum(values) / len(values) for values in expected) / self.jobs

    def refresh(self, under_way: list[Run]) -> None:
        """Draw the table again, on a terminal."""
        if self.is_terminal:
            self.erase()
            lines = [*self.table(), *(self.progress(run) for run in under_way), self.time_left()]
            print("\n".join(lines), flush=True)
            self.drawn = len(lines)

    def erase(self) -> None:
        """Remove the table from the screen."""
        if self.drawn:
            print(self.drawn * ERASE_LINE_ABOVE, end="")
        self.drawn = 0

    def table(self) -> list[str]:
        """A line for each method on each task: finished runs, failed runs, mean score."""
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.task, run.method), []).append(run)
        width = max(len(f"{task} {method}") for task, method in groups)
        return [self.table_line(f"{task} {method}".ljust(width), runs) for (task, method), runs in groups.items()]

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
        row = last_log_line(self.folder.run_folder(run))
        text = f"step {row['step']}/{row['steps']}, loss {row['loss']:.3f}" if row else "starts"
        return f"> {run.name}: {text}"


def read_result(folder: Path) -> dict:
    """metrics.json: score, failed, failure, seconds."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def describe_result(result: dict) -> str:
    """score 0.7870 (41 s), or why the run failed."""
    if result["score"] is None:
        return f"FAILED: {result['failure']}"
    failed = f", FAILED: {result['failure']}" if result["failed"] else ""
    return f"score {result['score']:.4f} ({result['seconds']:.0f} s){failed}"


def last_log_line(folder: Path) -> dict | None:
    """The newest whole line of log.jsonl."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:  # half written
            continue
    return None


def clock(seconds: float) -> str:
    """3:07:09"""
    return time.strftime(f"{int(seconds) // 3600}:%M:%S", time.gmtime(seconds))

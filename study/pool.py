"""Worker processes that share the runs of a study."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from minbert.training.signals import Signals
from study.folder import FINISHED, ROOT, RUNNING, StudyFolder
from study.plan import Run
from study.worker import ERROR, STOPPED, job_line

POLL_SECONDS = 1.0  # between two looks at the clock, at signals, and at the runs of other processes


class Worker:
    """One process of study/worker.py, and the run it trains."""

    def __init__(self, threads: int | None):
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *python_path()]))
        if threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the study alone, which then ends its workers in order
        )
        self.run: Run | None = None
        self.is_closing = False  # it gets no more runs, and ends

    def start(self, run: Run, folder: StudyFolder) -> None:
        """Ask for a run."""
        self.run = run
        line = job_line(run.name, folder.prepare(run), str(folder.output_file(run)))
        with suppress(BrokenPipeError):  # if the process has died, its closed output says so
            print(line, file=self.process.stdin, flush=True)

    def stop(self) -> None:
        """No more runs. A run that trains stops after its step."""
        self.is_closing = True
        with suppress(BrokenPipeError):
            self.process.stdin.close()


def python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


class Pool:
    """Trains runs in `jobs` processes, each run in one of them.

    `run_ended(run)` is called after each attempt, and `refresh(runs under way)` about once a second.
    """

    def __init__(
        self,
        folder: StudyFolder,
        jobs: int,
        threads: int | None,
        run_ended: Callable[[Run], object],
        refresh: Callable[[list[Run]], object],
        signals: Signals,
    ):
        self.folder, self.jobs, self.threads, self.signals = folder, jobs, threads, signals
        self.run_ended, self.refresh = run_ended, refresh
        self.waiting: list[Run] = []
        self.workers: list[Worker] = []
        self.selector = selectors.DefaultSelector()

    def train(self, runs: list[Run]) -> None:
        """Train all runs that are not finished. Raises Interrupted after a signal, when all workers have ended.

        Runs that other processes train are waited for: they end, or this pool takes them over.
        """
        self.waiting = [run for run in runs if self.folder.state(run) != FINISHED]
        with self.signals, self.signals.deferred():
            try:
                while not self.signals.received and (self.waiting or self.workers):
                    self.assign_runs()
                    self.listen()
                for worker in self.workers:
                    worker.stop()
                while self.workers:
                    self.listen()
            finally:  # after a second Ctrl-C, or an error of the study itself
                for worker in self.workers:
                    worker.process.kill()

    def assign_runs(self) -> None:
        """Give each idle worker a run. Start workers that are missing, and end those that are not needed any more."""
        for worker in self.workers:
            if worker.run is None and not worker.is_closing and (run := self.next_run()):
                worker.start(run, self.folder)
        while len(self.workers) < self.jobs and (run := self.next_run()):
            worker = Worker(self.threads)
            self.workers.append(worker)
            self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            worker.start(run, self.folder)
        if not self.waiting:
            for worker in self.workers:
                if worker.run is None:
                    worker.stop()

    def next_run(self) -> Run | None:
        """The next run that no other process trains or has finished. None if there is none now."""
        for run in list(self.waiting):
            state = self.folder.state(run)
            if state != RUNNING:
                self.waiting.remove(run)
            if state == FINISHED:  # by another process
                self.run_ended(run)
            elif state != RUNNING:
                return run
        return None

    def listen(self) -> None:
        """Wait for answers, for at most POLL_SECONDS."""
        if not self.workers:  # all runs that are left are under way in other processes
            time.sleep(POLL_SECONDS)
            return
        for key, _ in self.selector.select(POLL_SECONDS):
            worker = key.data
            line = worker.process.stdout.readline()
            if not line:
                self.remove(worker)
            elif line.startswith("{"):  # another line is from a library that prints while it is imported
                self.handle_answer(worker, json.loads(line))
        self.refresh([worker.run for worker in self.workers if worker.run])

    def handle_answer(self, worker: Worker, answer: dict) -> None:
        run, worker.run = worker.run, None
        state = self.folder.state(run)
        # A worker stops when the study does, or when somebody sends it a signal: then the run goes on later. An error
        # while another process has the run means only that the other process was faster.
        if answer["end"] == STOPPED or (answer["end"] == ERROR and state in (RUNNING, FINISHED)):
            self.waiting.append(run)
            return
        if answer["end"] == ERROR:
            self.folder.note_error(run, answer["error"])
        self.run_ended(run)

    def remove(self, worker: Worker) -> None:
        """The process has ended: in order, or in the middle of a run."""
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        worker.process.stdout.close()
        status = worker.process.wait()
        if worker.run is not None:
            self.folder.note_error(worker.run, f"the process ended {describe_end(status)}")
            self.run_ended(worker.run)


def describe_end(status: int) -> str:
    """How a process ended, from the exit status that subprocess gives: negative for a signal."""
    if status >= 0:
        return f"with exit status {status}"
    return f"by {signal.Signals(-status).name}" + ("; was the memory full?" if status == -signal.SIGKILL else "")

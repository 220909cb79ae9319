"""One process that trains one run after the other: imports, data and tokenizer are loaded once for all of them.

study/pool.py starts it. It reads one line of JSON for each run from standard input, trains, and answers with one line
of JSON on standard output. What the run prints goes to a file. If standard input ends while a run trains, because the
study was stopped or killed, the run stops after its step as it does after Ctrl-C.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any, TextIO

from minbert.errors import Interrupted, TrainingError
from minbert.training.arguments import saved_value
from minbert.training.inputs import Inputs
from minbert.training.run import fine_tune
from minbert.training.runtime import setup
from minbert.training.settings import CommonSettings, MultitaskSettings, Settings
from regularizers import build
from study.folder import ROOT
from train import one_line

ENDED, STOPPED, ERROR = "ended", "stopped", "error"  # how an attempt ended


def job_line(name: str, settings: CommonSettings, output: str) -> str:
    """The line that asks a worker for a run. `output` is the file for what the run prints."""
    return json.dumps({"name": name, "multitask": settings.multitask, "settings": asdict(settings), "output": output})


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # file descriptor 1 itself will be each run's output file
    jobs: queue.Queue[dict | None] = queue.Queue()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None)  # only a run listens to it: see read_jobs
    threading.Thread(target=read_jobs, args=(jobs, stopped), daemon=True).start()
    inputs = Inputs()
    while (job := jobs.get()) is not None:
        with output_to(job["output"]):
            answer = train_run(job, inputs, stopped)
        print(json.dumps({"name": job["name"], **answer}), file=answers, flush=True)


def read_jobs(jobs: queue.Queue, stopped: threading.Event) -> None:
    """Hand the lines of standard input to the main thread. At their end, stop a run that trains."""
    for line in sys.stdin:
        jobs.put(json.loads(line))
    # A run that listens to signals gets this one. A run that is about to listen looks at `stopped` when it does.
    stopped.set()
    os.kill(os.getpid(), signal.SIGTERM)
    jobs.put(None)


@contextlib.contextmanager
def output_to(path: str) -> Iterator[None]:
    """Append everything that this process prints, warnings of libraries too, to a file."""
    with open(path, "a", encoding="utf-8") as file:
        redirect(file)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def redirect(file: TextIO) -> None:
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)


def train_run(job: dict[str, Any], inputs: Inputs, stopped: threading.Event) -> dict[str, str]:
    """Train one run. Returns how the attempt ended: {"end": ...} and for an error {"error": one line}."""
    try:
        settings = read_settings(job)
        # A stopped run prints the command that continues it. This name is the program in that command.
        sys.argv[0] = str(ROOT / ("multitask.py" if settings.multitask else "train.py"))
        method = build(settings.option, settings.method_settings)
        with setup(settings.device, settings.precision, method.fp32) as runtime:
            if stopped.is_set():
                return {"end": STOPPED}
            fine_tune(settings, method, runtime, inputs=inputs)
    except (Interrupted, KeyboardInterrupt):
        return {"end": STOPPED}
    except TrainingError as error:  # the loss was not finite: a result, which the run folder holds
        print(error, flush=True)
    except Exception as error:  # of this run only: the study goes on with the others
        return {"end": ERROR, "error": describe(error)}
    return {"end": ENDED}


def read_settings(job: dict[str, Any]) -> CommonSettings:
    program = MultitaskSettings if job["multitask"] else Settings
    return program(**{f.name: saved_value(f, job["settings"][f.name]) for f in fields(program)})


def describe(error: Exception) -> str:
    """One line. For a bug, whose traceback goes to the output file, the kind of the error and its first line."""
    try:
        line = one_line(error)
    except Exception:
        traceback.print_exc()
        line = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    print(line, flush=True)
    return line


if __name__ == "__main__":
    main()

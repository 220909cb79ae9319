"""Stopped runs, and changes of their settings.json."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from minbert.training import run
from minbert.training.evaluation import Evaluator


def stop_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    """A signal comes while the epoch is scored."""
    patch.setattr(Evaluator, "scores", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or {"score": 0.0})
    patch.setattr(run, "describe_scores", lambda *_: "")


def close_output(patch: pytest.MonkeyPatch) -> None:
    """The program at the other end of the pipes ends."""
    for name in ("stdout", "stderr"):
        reading, writing = os.pipe()
        os.close(reading)
        patch.setattr(sys, name, os.fdopen(writing, "w"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

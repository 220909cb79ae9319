"""The scores of a run that goes on are in its checkpoints, which come and go."""

import json
import shutil

import torch

from minbert.training.checkpoint import Checkpoints, read_history

SCORES = [{"epoch": 1, "dev": {"score": 0.5}}, {"epoch": 2, "dev": {"score": 0.75}}]


def write(folder, step: int, values) -> None:
    Checkpoints(folder).write(step, {"x": torch.zeros(2)}, values if isinstance(values, str) else json.dumps(values))


def test_the_scores_are_those_of_the_last_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    assert read_history(folder) == []
    write(folder, 9, {"loop": {"history": SCORES[:1]}})
    write(folder, 10, {"loop": {"history": SCORES}})
    assert read_history(folder) == SCORES


def test_a_checkpoint_that_cannot_be_read_is_passed_over(tmp_path):
    write(tmp_path, 1, {"loop": {"history": SCORES}})
    for values in ("no JSON", "[" * 100_000, [], {"loop": None}, {"loop": {"history": None}}):
        write(tmp_path, 2, values)
        assert read_history(tmp_path) == SCORES
        Checkpoints(tmp_path).files()[-1].unlink()
    write(tmp_path, 3, {"loop": {"history": []}})
    Checkpoints(tmp_path).files()[-1].write_bytes(b"half")
    assert read_history(tmp_path) == SCORES


def test_a_folder_that_is_removed_meanwhile_gives_nothing(tmp_path, monkeypatch):
    """The run ends between two looks at the folder."""
    folder = tmp_path / "checkpoint"
    write(folder, 1, {"loop": {"history": SCORES}})
    files = Checkpoints(folder).files()
    shutil.rmtree(folder)
    monkeypatch.setattr(Checkpoints, "files", lambda self: files)
    assert read_history(folder) == []
    monkeypatch.setattr(Checkpoints, "files", lambda self: list(folder.iterdir()))
    assert read_history(folder) == []

"""What survives a power failure at any moment: see support/power.py."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from support.power import LOST, Power

import train
from minbert import files
from minbert.training.checkpoint import FILE_NAME, Checkpoints


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_has_its_old_or_its_new_whole_content(tmp_path, monkeypatch, old):
    path, seen = tmp_path / "x", []
    if old is not None:
        path.write_bytes(old)
    power = Power(tmp_path, monkeypatch, lambda: seen.append(power.outcomes(path)))
    files.write_text(path, "new")
    assert power.outcomes(path) == {b"new"}
    assert {old} in seen and all(outcomes <= {old, b"new"} for outcomes in seen)


def test_the_stand_in_finds_a_file_that_is_renamed_before_it_is_synced(tmp_path, monkeypatch):
    power = Power(tmp_path, monkeypatch, lambda: None)
    (tmp_path / "temporary").write_bytes(b"new")
    files.os.replace(tmp_path / "temporary", tmp_path / "x")
    assert power.outcomes(tmp_path / "x") == {None, LOST}
    files.sync(tmp_path)
    assert power.outcomes(tmp_path / "x") == {LOST}
    files.sync(tmp_path / "x")
    assert power.outcomes(tmp_path / "x") == {b"new"}


def is_whole(path: Path, content: bytes | None) -> bool:
    return content is not None and path.stem.endswith(hashlib.sha256(content).hexdigest())


def test_at_every_moment_one_whole_checkpoint_is_sure(tmp_path, monkeypatch):
    """After the first is written. Also no name ever stands for half a file."""
    folder, names, written, sure = tmp_path / "run" / "checkpoint", set(), [], []

    def check():
        names.update(path for path in folder.glob("*") if FILE_NAME.fullmatch(path.name))
        outcomes = {path: power.outcomes(path) for path in names}
        assert all(content is None or is_whole(path, content) for path in names for content in outcomes[path])
        if written:
            sure.append([path for path in names if None not in outcomes[path]])
            assert sure[-1]

    (tmp_path / "run").mkdir()
    power = Power(tmp_path, monkeypatch, check)
    for step in range(5):
        Checkpoints(folder).write(step, {"x": torch.full((1000,), step)}, json.dumps({"step": step}))
        written.append(step)
        check()
    assert len(names) == 5 and len(sure[-1]) >= 2


def test_what_a_complete_run_wrote_is_on_the_disk_except_its_log(arguments, tmp_path, monkeypatch):
    """And at every moment a metrics.json stands for a complete run: model and predictions are there, too."""
    out = tmp_path / "new" / "folder" / "run"
    words = {"name": "reviews", "train": "train.csv", "dev": "dev.csv", "text": "text", "label": "label"}
    lines = [*(f'{key} = "{word}"' for key, word in words.items()), 'labels = ["0", "1"]', 'metrics = ["accuracy"]']
    (tmp_path / "reviews.toml").write_text("\n".join(lines))
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "red,1\ngreen,0\n" * 8)

    def check():
        settings, metrics = power.outcomes(out / "settings.json"), power.outcomes(out / "metrics.json")
        assert LOST not in settings | metrics
        if metrics != {None}:
            assert all(sure(path) for name in ("model", "predictions") for path in files_below(out / name))
            assert sure(out / "settings.json")

    def sure(path: Path) -> bool:
        return power.outcomes(path) == {path.read_bytes()}

    power = Power(tmp_path, monkeypatch, check)
    assert (
        train.main([*arguments, "--task", str(tmp_path / "reviews.toml"), "--out", str(out), "--max-steps", "2"]) == 0
    )
    unsure = {path.relative_to(out).as_posix() for path in files_below(out) if not sure(path)}
    assert unsure == {"log.jsonl"} and (out / "reviews.toml").exists() and len(files_below(out / "model")) >= 3


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]

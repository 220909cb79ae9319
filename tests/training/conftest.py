"""A stopped run."""

import pytest
from support.run_folders import stop_in_evaluation

import train


@pytest.fixture
def stopped(arguments, tmp_path, monkeypatch, capsys):
    """The folder of a run that was stopped after its first epoch."""
    with monkeypatch.context() as patch:
        stop_in_evaluation(patch)
        assert train.main([*arguments, "--epochs", "2"]) == 143
    capsys.readouterr()
    return tmp_path / "run"

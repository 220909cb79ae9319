"""A run that stops after an epoch and goes on from its checkpoint ends with the same bits."""

import pytest
import torch
from conftest import CPU, Log, make_dataset, make_model

from minbert.checkpoint import Checkpoint
from minbert.settings import Settings
from minbert.training import Objective, fit
from regularizers import OPTIONS, build


class Stop(Exception):
    pass


def run(option: str, checkpoint: Checkpoint, stop_after: int = 99):
    dataset, model = make_dataset(size=18), make_model()
    objective = Objective(model, build(option))
    objective.method.attach(model)

    def score(epoch: int) -> dict:
        if epoch > stop_after:
            raise Stop
        return {"seen": epoch}

    plan = lambda epoch: [(dataset, rows) for rows in dataset.shuffled(6, 0, epoch)]  # noqa: E731
    totals, history = fit(objective, plan, score, 8, Settings(lr=1e-2, warmup=0.1), CPU, Log(), checkpoint)
    return objective.state_dict(), totals, history


@pytest.mark.parametrize("option", OPTIONS)
def test_resumed_equals_uninterrupted(option, tmp_path):
    whole, totals, history = run(option, Checkpoint(None))
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    with pytest.raises(Stop):
        run(option, checkpoint, stop_after=1)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint"}
    resumed, totals_again, history_again = run(option, checkpoint)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert totals["train_loss"] == totals_again["train_loss"] and totals_again["steps"] == 8
    assert history == history_again == [{"epoch": e, "seen": e} for e in (1, 2, 3)]
    assert totals_again["examples_per_second"] * totals_again["seconds"] == pytest.approx(48)  # 18 + 18 + 12
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []

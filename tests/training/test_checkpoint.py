"""A run that stops anywhere and goes on from its checkpoint ends with the same bits."""

import functools
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.factories import make_dataset, make_model, make_training_state

from minbert.data.sampling import BatchSampler
from minbert.errors import InputError, Interrupted, TrainingError
from minbert.training.checkpoint import Checkpoints
from minbert.training.loop import Objective, fit
from minbert.training.runtime import Runtime
from minbert.training.settings import Settings
from minbert.training.state import TrainingState, load_own_tensors, own_tensors
from regularizers import OPTIONS, build
from regularizers.base import Method

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8  # 30 examples in batches of 10: epochs of 3, 3 and 2 steps


def run(
    option: str,
    checkpoints: Checkpoints | None,
    interrupt=lambda place: None,
    steps: int = STEPS,
    precision: str = "fp32",
):
    """interrupt(n) is called in step n, and interrupt("epoch 1") and so on before each epoch is scored."""
    objective, rows = Objective(make_model(), build(option)), []
    objective.method.attach(objective.model)
    count = itertools.count(1)
    objective.register_forward_pre_hook(lambda *_: interrupt(next(count)))

    def score(epoch: int) -> dict:
        interrupt(f"epoch {epoch}")
        runtime.signals.raise_if_received()
        return {"seen": epoch}

    settings = Settings(lr=1e-2, warmup=0.1, batch_size=10, data_seed=0)
    sampler = BatchSampler(make_dataset(size=30), 10, 0, epochs=None, max_steps=steps)
    with Runtime(torch.device("cpu"), precision) as runtime:
        totals, history = fit(objective, sampler, score, settings, runtime, rows.append, checkpoints)
    return objective.state_dict(), totals, history, rows


def same_run(one, other) -> bool:
    """Parameters and method state, history, training loss, and the log of what both logged."""
    losses = [{row["step"]: (row["loss"], row["penalty"], row["lr"]) for row in rows} for *_, rows in (one, other)]
    shared = losses[0].keys() & losses[1].keys()
    return (
        all(torch.equal(one[0][name], other[0][name]) for name in one[0])
        and one[2] == other[2]
        and one[1]["train_loss"] == other[1]["train_loss"]
        and counts(one) == counts(other)
        and all(losses[0][step] == losses[1][step] for step in shared)
    )


def counts(result) -> tuple[int, ...]:
    """Of steps, examples and tokens."""
    totals = result[1]
    rates = (totals["examples_per_second"], totals["tokens_per_second"])
    return totals["steps"], *(round(rate * totals["seconds"]) for rate in rates)


def sends(number: int, at):
    return lambda place: os.kill(os.getpid(), number) if place == at else None


@functools.cache
def uninterrupted(option: str):
    return run(option, None)


@pytest.mark.parametrize("at", [1, 3, 5, "epoch 1", "epoch 3"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(option, at, tmp_path):
    checkpoint = Checkpoints(tmp_path / "checkpoint")
    with pytest.raises(Interrupted) as stop:
        run(option, checkpoint, sends(signal.SIGTERM, at))
    assert stop.value.status == 143
    whole, resumed = uninterrupted(option), run(option, Checkpoints(tmp_path / "checkpoint"))
    assert same_run(whole, resumed)
    assert resumed[2] == [{"epoch": e, "seen": e} for e in (1, 2, 3)]
    assert counts(resumed)[:2] == (STEPS, 80) and resumed[1]["epochs"] == 3  # 30 + 30 + 20 examples
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_loss_scale_of_fp16_is_restored(tmp_path, monkeypatch):
    """It starts so high that the first steps are skipped. A resumed run must not skip again."""
    scaler = lambda self: torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=3)  # noqa: E731
    monkeypatch.setattr(Runtime, "scaler", scaler)
    with pytest.raises(Interrupted):
        run("finetune", Checkpoints(tmp_path), sends(signal.SIGTERM, 5), precision="fp16")
    whole, resumed = (run("finetune", c, precision="fp16") for c in (None, Checkpoints(tmp_path)))
    assert same_run(whole, resumed)


def test_a_signal_waits_for_the_end_of_the_step(tmp_path):
    checkpoint = Checkpoints(tmp_path)
    with pytest.raises(Interrupted):
        run("finetune", checkpoint, sends(signal.SIGINT, 4))
    assert [path.name.split("-")[1] for path in checkpoint.files()] == ["step3", "step4"]


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    def twice(place):
        if place == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("finetune", Checkpoints(tmp_path), twice)
    assert [path.name.split("-")[1] for path in Checkpoints(tmp_path).files()] == ["step3"]


def test_outside_of_training_a_signal_ends_the_program_at_once():
    with pytest.raises(Interrupted, match="SIGTERM"), Runtime(torch.device("cpu")):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_checkpoint_is_due_after_some_steps_or_minutes_and_at_the_end_of_an_epoch(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Checkpoints, "write", lambda self, step, *_: saved.append(step))
    run("finetune", Checkpoints(tmp_path, steps=2))
    assert saved == [2, 3, 5, 6, 8, 8]  # two steps after the last, and at the end of each epoch
    saved.clear()
    run("finetune", Checkpoints(tmp_path, minutes=0.0))
    assert saved == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 8]
    saved.clear()
    run("finetune", Checkpoints(tmp_path, minutes=60))
    assert saved == [3, 6, 8]


def test_the_minutes_count_from_the_last_checkpoint(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("minbert.training.checkpoint.time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, minutes=10, active=False)
    now[0] = 599.9
    assert not checkpoints.is_due(1)
    now[0] = 600.0
    assert checkpoints.is_due(1)
    checkpoints.save(make_training_state(Objective(make_model(), Method())))
    now[0] = 1199.9
    assert not checkpoints.is_due(2)
    now[0] = 1200.0
    assert checkpoints.is_due(2)


def test_only_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_not_loaded(tmp_path, caplog):
    checkpoint = Checkpoints(tmp_path, steps=1)
    with pytest.raises(Interrupted):
        run("smart", checkpoint, sends(signal.SIGINT, 5))
    _, last = checkpoint.files()
    good = last.read_bytes()
    for place in (9, len(good) // 2, len(good) - 1):  # in the header, and in tensors
        last.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert load("smart", tmp_path).loop.step == 4
        assert f"{last} is damaged" in caplog.text and "going on after step 4" in caplog.text
        caplog.clear()
        last.write_bytes(good)
    last.write_bytes(last.read_bytes()[:-100])
    assert same_run(uninterrupted("smart"), run("smart", Checkpoints(tmp_path)))
    for path in Checkpoints(tmp_path).files():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="all checkpoints are damaged; delete this folder, and"):
        run("smart", Checkpoints(tmp_path))


def test_a_damaged_checkpoint_is_removed_before_a_good_one(tmp_path):
    with pytest.raises(Interrupted):
        run("finetune", Checkpoints(tmp_path, steps=1), sends(signal.SIGINT, 5))
    good, last = Checkpoints(tmp_path).files()
    last.write_bytes(b"")
    with pytest.raises(Interrupted):
        run("finetune", Checkpoints(tmp_path), sends(signal.SIGINT, 1))
    assert [path.name.split("-")[1] for path in Checkpoints(tmp_path).files()] == ["step4", "step5"]
    assert good.exists() and not last.exists()


def test_other_files_in_the_folder_are_not_checkpoints(tmp_path):
    for name in ("x-step1-y.safetensors", f"7-step1-{'0' * 64}.safetensors"):
        (tmp_path / name).mkdir()
    run("finetune", Checkpoints(tmp_path))
    assert len(Checkpoints(tmp_path).files()) == 2


def new_state(option: str) -> TrainingState:
    objective = Objective(make_model(), build(option))
    objective.method.attach(objective.model)
    return make_training_state(objective, STEPS)


def load(option: str, folder: Path) -> TrainingState:
    """The last checkpoint in a folder."""
    state = new_state(option)
    assert Checkpoints(folder).load_last(state)
    return state


@pytest.mark.parametrize("option", OPTIONS)
def test_the_numbers_of_a_state_survive_json_and_its_tensors_are_equal_bit_for_bit(option, tmp_path):
    """Also those of best weights: the score 0.7 is not a float32."""
    run(option, Checkpoints(tmp_path))
    state, other = load(option, tmp_path), new_state(option)
    state.best.update(state.objective.model, 0.7)
    other.load(state.tensors(), json.loads(json.dumps(state.values())))
    assert other.values() == state.values() and other.best.score == 0.7
    assert other.tensors().keys() == state.tensors().keys()
    assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in state.tensors().items())


def test_a_tensor_with_several_names_is_stored_once_and_comes_back_under_all():
    """ALBERT's layers share theirs."""
    model, other = make_model(family="albert"), make_model(family="albert")
    stored = own_tensors(model)
    assert len(stored) == len(list(model.parameters())) < len(model.state_dict())
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    load_own_tensors(other, stored)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_rank_that_does_not_write_neither_saves_nor_removes_checkpoints(tmp_path):
    run("finetune", Checkpoints(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    silent = Checkpoints(tmp_path, active=False)
    run("finetune", silent)
    silent.save(load("finetune", tmp_path))
    silent.remove()
    assert before and before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_an_empty_folder_holds_no_state(tmp_path):
    assert not Checkpoints(tmp_path / "nothing").load_last(new_state("finetune"))


def test_a_checkpoint_of_another_model_or_another_length_is_refused(tmp_path):
    run("smart", Checkpoints(tmp_path))
    with pytest.raises(InputError, match="is of another model or method"):
        load("finetune", tmp_path)
    with pytest.raises(InputError, match="the run was planned with 8 steps, now it has 9: its data have changed"):
        run("smart", Checkpoints(tmp_path), steps=9)


def test_a_state_after_a_loss_that_is_not_finite_is_never_saved(tmp_path, monkeypatch):
    forward = Objective.forward

    def poisoned(self, batch):
        loss, terms = forward(self, batch)
        factor = float("nan") if len(Checkpoints(tmp_path).files()) == 2 else 1.0
        return loss * factor, {name: term * factor for name, term in terms.items()}

    monkeypatch.setattr(Objective, "forward", poisoned)
    with pytest.raises(TrainingError, match="step 3: the loss is not finite"):
        run("finetune", Checkpoints(tmp_path, steps=1))
    assert load("finetune", tmp_path).loop.step == 2


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    """The system itself refuses to let a file grow."""
    with pytest.raises(Interrupted):
        run("finetune", Checkpoints(tmp_path), sends(signal.SIGINT, 2))
    (kept,) = Checkpoints(tmp_path).files()
    code = "import sys, test_checkpoint as t; t.run('finetune', t.Checkpoints(t.Path(sys.argv[1])))"
    limit = kept.stat().st_size // 2
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))},
        capture_output=True, text=True,
    )  # fmt: skip
    assert f"the checkpoint of step 3 cannot be written to {tmp_path}: " in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [kept]
    assert same_run(uninterrupted("finetune"), run("finetune", Checkpoints(tmp_path)))

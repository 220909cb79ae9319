"""--record gradients: the norms are right, and the training is the same bit for bit."""

import json
import math

import pytest
import torch
from support.factories import CPU, make_dataset, make_model

import train
from minbert.data.sampling import BatchSampler
from minbert.errors import InputError
from minbert.random_state import derive_seed
from minbert.training.gradients import GradientRecorder, check_recording
from minbert.training.loop import Objective, backward, fit
from minbert.training.runtime import Runtime
from minbert.training.settings import Settings
from regularizers import build
from regularizers.base import Method

FLAGS = "--batch-size 8 --max-length 32 --max-steps 6 --device cpu --precision fp32".split()
RECORD = ("--record", "gradients", "--record-every", "2")
TIMES = ("tokens_per_second", "seconds_left")


@pytest.fixture
def flags(model_folder, data_folder) -> list[str]:
    """Six steps of a tiny random model."""
    return [*FLAGS, "--model", str(model_folder), "--data", str(data_folder)]


def rows_of(folder, name: str = "gradients.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("option", ["finetune", "smart", "mine", "freelb", "lora+smart"])
def test_recording_changes_no_bit_of_the_training(option, flags, tmp_path):
    for name, record in (("plain", ()), ("recorded", RECORD)):
        assert train.main([*flags, "--option", option, *record, "--out", str(tmp_path / name)]) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("plain", "recorded")]
    assert weights[0] == weights[1]
    plain, recorded = (rows_of(tmp_path / name, "log.jsonl") for name in ("plain", "recorded"))
    without_times = [[{k: v for k, v in row.items() if k not in TIMES} for row in rows] for rows in (plain, recorded)]
    assert without_times[0] == without_times[1]
    assert [row["step"] for row in rows_of(tmp_path / "recorded")] == [2, 4, 6]
    assert not (tmp_path / "plain" / "gradients.jsonl").exists()


@pytest.mark.parametrize("option", ["finetune", "lnsr"])
def test_the_root_of_the_sum_of_squares_is_the_norm_that_clipping_finds(option):
    recorded, logged = [], []
    model, sampler = make_model(), BatchSampler(make_dataset(size=90), 4, 0, epochs=None, max_steps=20)
    settings = Settings(lr=1e-2, warmup=0.1, clip=0.1, record=("gradients",), record_every=10)
    objective = Objective(model, build(option))
    fit(objective, sampler, lambda epoch: {}, settings, CPU, logged.append, None, recorded.append)
    assert [row["step"] for row in recorded] == [row["step"] for row in logged] == [10, 20]
    for row, line in zip(recorded, logged):
        total = math.sqrt(sum(norm**2 for norm in row["gradients"]["all"].values()))
        assert total == pytest.approx(line["gradient_norm"], rel=1e-5)
        assert total > 0.2  # more than the clipped norm


class SomeBatches(Method):
    """A penalty on micro-batches of one size only. (MINE has none on small ones.)"""

    def __init__(self, size: int, factor: float = 1.0):
        super().__init__()
        self.size, self.factor = size, factor

    def penalty(self, model, batch, clean):
        return {"some": self.factor * clean.logits.square().sum()} if len(batch.labels) == self.size else {}


def attached(option: str | Method, model) -> torch.nn.Module:
    method = build(option) if isinstance(option, str) else option
    method.attach(model)
    return method


def recorded_step(option: str | Method, accumulate: int, rows: list[int], **changes) -> dict[str, dict[str, float]]:
    """The norms of step 1, in float64."""
    written = []
    model, dataset = make_model(**changes).double().train(), make_dataset()
    objective = Objective(model, attached(option, model)).double()
    recorder = GradientRecorder(model, 1, written.append)
    recorder.start_step(1)
    backward(objective, dataset, rows, Settings(accumulate=accumulate), CPU, CPU.scaler(), 0, recorder)
    recorder.end_step()
    assert written[0]["step"] == 1
    return written[0]["gradients"]


def test_each_term_has_the_gradient_of_its_own_backward_pass():
    """The reference runs the model once for each term, and reads .grad."""
    rows, recorded = [1, 5, 2, 7, 0], recorded_step("lnsr+rdrop", 1, [1, 5, 2, 7, 0])
    assert list(recorded) == ["all", "task", "lnsr.stability", "rdrop.consistency"]
    for term in ("task", "lnsr.stability", "rdrop.consistency"):
        model = make_model().double().train()
        objective = Objective(model, attached("lnsr+rdrop", model)).double()
        batch = make_dataset().collate(rows, seed=derive_seed(0, 0, 0, 0))
        objective(batch)[1][term].backward()
        expected = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
        assert recorded[term] == pytest.approx(expected, rel=1e-5)
        assert sum(norm > 0 for norm in expected.values()) > 10


def test_micro_batches_add_up_to_the_whole_batch():
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    whole, pieces = (recorded_step("l2sp", n, [3, 1, 4, 9, 5, 2, 6], **no_dropout) for n in (1, 3))
    assert list(whole) == list(pieces) == ["all", "task", "l2sp.distance"]
    for term, norms in whole.items():
        assert pieces[term] == pytest.approx(norms, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("size", [3, 2])  # the first micro-batch has 3 rows, the two others have 2
def test_micro_batches_without_a_penalty_count_in_the_gradient_of_the_task(size):
    rows = [3, 1, 4, 9, 5, 2, 6]
    task = recorded_step(SomeBatches(size), 3, rows)["task"]
    assert task == pytest.approx(recorded_step("finetune", 3, rows)["all"], rel=1e-5)


def test_the_gradient_of_the_task_has_the_tasks_weight():
    recorded, sampler = [], BatchSampler(make_dataset(), 4, 0, epochs=None, max_steps=1)
    objective = Objective(make_model(), SomeBatches(4, factor=0.0), {"rte": 0.25})
    settings = Settings(clip=0.0, record=("gradients",), record_every=1)
    fit(objective, sampler, lambda epoch: {}, settings, CPU, write_gradients=recorded.append)
    (row,) = recorded
    assert row["gradients"]["task"] == pytest.approx(row["gradients"]["all"], rel=1e-5)


def test_frozen_parameters_have_no_row_and_wrappers_do_not_show_in_names(flags, tmp_path):
    assert train.main([*flags, *RECORD, "--option", "adapter", "--out", str(tmp_path / "run")]) == 0
    names = rows_of(tmp_path / "run")[0]["gradients"]["all"]
    assert "heads.rte.weight" in names and not any(".base." in name for name in names)
    assert "bert.layers.0.attention.query.weight" not in names


def test_a_resumed_run_records_what_an_undisturbed_run_records(flags, tmp_path, monkeypatch):
    flags = [*flags, *RECORD, "--checkpoint-steps", "3"]
    assert train.main([*flags, "--out", str(tmp_path / "whole")]) == 0

    class StoppedError(Exception):
        pass

    def stop(self, step: int) -> None:
        if step == 6:
            raise StoppedError
        start_step(self, step)

    start_step = GradientRecorder.start_step
    with monkeypatch.context() as patch:
        patch.setattr(GradientRecorder, "start_step", stop)
        with pytest.raises(StoppedError):
            train.main([*flags, "--out", str(tmp_path / "stopped")])
    assert [row["step"] for row in rows_of(tmp_path / "stopped")] == [2, 4]  # the checkpoint is of step 3
    assert train.main(["--resume", str(tmp_path / "stopped")]) == 0
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "whole")


def test_a_run_that_is_too_short_for_a_record_says_so(flags, tmp_path, capsys):
    for every, is_said in ((6, False), (7, True)):
        record = ["--record", "gradients", "--record-every", str(every)]
        assert train.main([*flags, *record, "--out", str(tmp_path / str(every))]) == 0
        line = f"--record: no step is recorded, because --record-every is {every}"
        assert (line in capsys.readouterr().out.splitlines()) == is_said
        assert (tmp_path / str(every) / "gradients.jsonl").exists() != is_said


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("--record-every", "5"), "--record-every has no effect without --record"),
        (("--record", "gradients", "--compile"), "--record gradients does not work with --compile"),
        (("--record", "gradients", "--record-every", "0"), "--record-every must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, message, flags, tmp_path, capsys):
    assert train.main([*flags, *wrong, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"precision": "fp16"}, {"world_size": 2}])
def test_fp16_and_several_processes_are_refused(changes):
    runtime = Runtime(torch.device("cpu"), **changes)
    check_recording(Settings(), runtime)
    with pytest.raises(InputError, match="--record gradients"):
        check_recording(Settings(record=("gradients",)), runtime)

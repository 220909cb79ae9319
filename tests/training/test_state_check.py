"""A checkpoint with the right checksum and wrong content is refused in one line that names what is wrong."""

import copy
import functools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.factories import make_model, make_training_state

import train
from minbert.errors import InputError, Interrupted
from minbert.files import sha256
from minbert.training.checkpoint import Checkpoints, read_checkpoint
from minbert.training.evaluation import Evaluator
from minbert.training.loop import Objective
from minbert.training.state import TrainingState
from minbert.training.state_check import check_tensors, check_values
from regularizers import build

STEPS = 8


def make_state(option: str = "smart") -> TrainingState:
    torch.manual_seed(0)
    objective = Objective(make_model(), build(option))
    objective.method.attach(objective.model)
    return make_training_state(objective, STEPS)


def trained_state() -> TrainingState:
    """After one step of every parameter, in the second epoch, with best weights."""
    state = make_state()
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        optimizer.step()
    state.best.update(state.objective.model, 0.5)
    scores = {"score": 0.5, "metrics": {"accuracy": 0.5}, "majority": {"accuracy": 1}, "failed": False, "failure": ""}
    state.loop.step, state.loop.step_in_epoch = 1, 1
    state.loop.end_epoch({"dev": scores})
    state.log.state.unlogged = [("rte", {"task": 0.5, "smoothness": float("nan")})]
    return state


@pytest.fixture(scope="module")
def good() -> tuple[dict, dict]:
    state = trained_state()
    return state.tensors(), json.loads(json.dumps(state.values()))


@functools.cache
def fresh_state() -> TrainingState:
    """Of a run that has not begun. The checks change nothing in it."""
    return make_state()


def refusal(check, *arguments) -> str:
    with pytest.raises(ValueError) as error:
        check(fresh_state(), *arguments)
    return str(error.value)


def test_a_right_state_is_accepted(good):
    tensors, values = good
    check_values(make_state(), values)
    check_tensors(make_state(), tensors, values)
    fresh = make_state()
    check_values(fresh, json.loads(json.dumps(fresh.values())))
    check_tensors(fresh, fresh.tensors(), fresh.values())


DELETED = object()
PLACES = [
    (("loop",), [None, [], {}, DELETED]),
    (("loop", "step"), [-1, "1", None, 1.5, True, 9, DELETED]),
    (("loop", "total_steps"), [-1, None]),
    (("loop", "step_in_epoch"), [2, -1, None]),
    (("loop", "epoch"), [1, 3, "2"]),
    (("loop", "history"), [None, [None], [{}], [{"epoch": 2}], [[]]]),
    (("loop", "history", 0, "dev"), [None, 0.5, {}, {"score": "0.5"}, {"score": 0.5, "metrics": None}]),
    (("loop", "history", 0, "dev", "score"), [None, "0.5", True, DELETED]),
    (("loop", "history", 0, "dev", "metrics"), [None, {"accuracy": None}, DELETED]),
    (("loop", "history", 0, "dev", "failed"), [None, 1, DELETED]),
    (("loop", "history", 0, "dev", "failure"), [None, DELETED]),
    (("loop", "history", 0, "dev", "tasks"), [None, {"rte": None}, {"rte": {}}]),
    (("log", "seconds"), [None, "1", [], DELETED]),
    (("log", "examples"), [-1, 0.5]),
    (("log", "unlogged"), [None, [None], [["rte"]], [["rte", None]], [["rte", {"task": None}]]]),
    (("log", "unlogged"), [[["qqp", {}]], [[1, {}]], [["rte", {}, 0]]]),
    (("log", "epoch_losses"), [{"qqp": []}, {"rte": [None]}, {"rte": {}}]),
    (("log", "steps_of_task"), [{}, {"rte": 1, "qqp": 1}, {"rte": None}]),
    (("log", "new"), [1]),
    (("scaler",), [None, {"scale": 1.0}]),
    (("best_score",), ["1", [], True]),
    (("optimizer_numbers",), [None, [None], [[0, 0, "step"]], [[0, 0, "step", None]], [[0, -1, "step", 1]]]),
    (("optimizer_numbers", 0, 3), [-1, "1"]),
    (("new",), [1]),
]  # fmt: skip


@pytest.mark.parametrize("place, bad", [(place, bad) for place, values in PLACES for bad in values])
def test_a_wrong_value_is_named(good, place, bad):
    values = copy.deepcopy(good[1])
    node = values
    for key in place[:-1]:
        node = node[key]
    if bad is DELETED:
        del node[place[-1]]
    else:
        node[place[-1]] = bad
    assert str(place[0]).removesuffix("s") in refusal(check_values, values) or len(place) == 1


@pytest.mark.parametrize("values", [None, [], {}, 5, "x"])
def test_values_that_are_no_object_are_refused(values):
    assert refusal(check_values, values).startswith("the state has ")


WORD = "objective.model.bert.embeddings.token.weight"
BEST, MOMENT = "best.bert.embeddings.token.weight", "optimizer.0.0.m"
TENSORS = {
    "missing": (lambda t: t.pop(WORD), f"{WORD} is missing"),
    "unexpected": (lambda t: add(t, "objective.new"), "objective.new is unexpected"),
    "of another kind": (lambda t: add(t, "new"), "new is unknown"),
    "of another shape": (lambda t: add(t, WORD), f"{WORD} is float32 [2], not float32 [30, 12]"),
    "of another type": (lambda t: t.update({WORD: t[WORD].double()}), f"{WORD} is float64 [30, 12], not float32"),
    "a best weight missing": (lambda t: t.pop(BEST), f"{BEST} is missing"),
    "a best weight of another shape": (lambda t: add(t, BEST), f"{BEST} is float32 [2], not"),
    "best weights without a score": (lambda t: None, "best_score is None"),
    "no best weights": (lambda t: drop(t, "best."), "best."),
    "a moment missing": (lambda t: t.pop(MOMENT), f"{MOMENT} is missing"),
    "all of one moment missing": (lambda t: drop(t, ".v"), ".v is missing"),
    "a moment of another shape": (lambda t: add(t, MOMENT), f"{MOMENT} is float32 [2], not"),
    "a moment of another type": (lambda t: t.update({MOMENT: t[MOMENT].half()}), f"{MOMENT} is float16"),
    "a moment of no parameter": (lambda t: add(t, "optimizer.0.999.m"), "optimizer.0.999.m is unexpected"),
    "a moment of no optimizer": (lambda t: add(t, "optimizer.9.0.m"), "optimizer.9.0.m is unexpected"),
    "a moment without a number": (lambda t: add(t, "optimizer.x"), "optimizer.x is unexpected"),
}


def add(tensors: dict, name: str) -> None:
    tensors[name] = torch.zeros(2)


def drop(tensors: dict, ending: str) -> None:
    """All tensors whose name begins or ends so."""
    for name in [name for name in tensors if name.startswith(ending) or name.endswith(ending)]:
        del tensors[name]


@pytest.mark.parametrize("name", TENSORS)
def test_a_wrong_tensor_is_named(good, name):
    change, message = TENSORS[name]
    tensors, values = dict(good[0]), copy.deepcopy(good[1])
    change(tensors)
    if name == "best weights without a score":
        values["best_score"] = None
    assert message in refusal(check_tensors, tensors, values)


def test_a_number_of_an_optimizer_must_be_there(good):
    values = copy.deepcopy(good[1])
    assert values["optimizer_numbers"][0][:3] == [0, 0, "step"]
    del values["optimizer_numbers"][0]
    assert refusal(check_tensors, good[0], values) == "optimizer.0.0.step is missing"


def rewrite(folder, metadata, tensors=None) -> None:
    """Replace the content of the last checkpoint, with its checksum in the name, as nothing but a hand can."""
    path = Checkpoints(folder).files()[-1]
    tensors = tensors or load_file(path)
    path.unlink()
    save_file(tensors, folder / "x", metadata=metadata)
    (folder / "x").rename(folder / f"{path.name.rpartition('-')[0]}-{sha256(folder / 'x')}.safetensors")


@pytest.mark.parametrize("metadata", [None, {}, {"values": "null"}, {"values": "{"}, {"values": "[" * 200_000}])
def test_a_file_without_the_numbers_of_a_state_is_refused_by_name(tmp_path, metadata):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(trained_state())
    rewrite(tmp_path, metadata)
    with pytest.raises(InputError, match="is of another model or method, or was changed: ") as error:
        checkpoints.load_last(make_state())
    assert str(checkpoints.files()[-1]) in str(error.value) and checkpoints.unusable == checkpoints.files()[-1]


@pytest.fixture
def stopped(arguments, tmp_path, monkeypatch, capsys):
    """The folder of a run that was stopped after its second epoch, with two checkpoints."""

    def stop(*_):
        raise Interrupted(15)

    with monkeypatch.context() as patch:
        scores, epochs = Evaluator.scores, iter([None, None, stop])
        patch.setattr(Evaluator, "scores", lambda *a: (next(epochs) or scores)(*a))
        assert train.main([*arguments, "--epochs", "3"]) == 143
    capsys.readouterr()
    return tmp_path / "run"


def proposal(out: str) -> str:
    (line,) = [line for line in out.splitlines() if line.startswith("stopped; ")]
    return line


def test_the_proposed_command_works_after_the_proposed_deletion(stopped, capsys, caplog):
    """First the last checkpoint has wrong content, then both are damaged."""
    _, last = Checkpoints(stopped / "checkpoint").files()
    _, values = read_checkpoint(last)
    values["loop"]["step"] = -1
    rewrite(stopped / "checkpoint", {"values": json.dumps(values)})
    before, last = Checkpoints(stopped / "checkpoint").files()
    assert train.main(["--resume", str(stopped)]) == 2
    out, errors = capsys.readouterr()
    assert f"train.py: {last} is of another model or method, or was changed: loop.step is -1\n" in errors
    assert f"stopped; delete {last}, and then, to go on after step 16: " in proposal(out)
    last.rename(last.with_name("kept"))
    before_bytes = before.read_bytes()
    for path in (before, last):
        path.write_bytes(b"")
    assert train.main(["--resume", str(stopped)]) == 2
    out, errors = capsys.readouterr()
    folder = stopped / "checkpoint"
    assert f"{folder}: all checkpoints are damaged; delete this folder, and --resume starts" in errors
    assert proposal(out).startswith(f"stopped; delete {folder}, and then, to go on from the beginning: ")
    last.unlink()
    before.write_bytes(before_bytes)
    assert train.main(["--resume", str(stopped)]) == 0
    assert "going on after step 16" in caplog.text

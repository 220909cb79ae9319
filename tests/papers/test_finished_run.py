"""FinishedRun gives back the run's model, start and data; the scripts' command line ends as all programs do."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles, tsv_value
from minbert.training.text_model import tasks_of_run
from papers.figure import figure_parser, run_figure
from papers.finished_run import (
    FinishedRun,
    batches,
    check_kept,
    check_models,
    check_runs,
    check_same_task,
    group_by_recipe,
)
from tests.papers.conftest import make_run

CPU = torch.device("cpu")


@pytest.mark.parametrize("option", ["finetune", "adapter", "lora+smart", "r4f"])
def test_the_trained_model_makes_the_predictions_of_the_run(option, tmp_path):
    run = make_run(tmp_path / "run", "--option", option, "--lr", "1e-2")
    dataset, correct = run.dataset(), []
    for batch in batches(dataset, 32, CPU):
        with torch.no_grad():
            correct += (run.trained()(batch).logits.argmax(1) == batch.labels).tolist()
    assert np.mean(correct) == pytest.approx(run.score)


def test_the_pretrained_model_is_the_start_of_the_run(runs):
    (start, end), other = (runs[0].pretrained(), runs[0].trained()), runs[1].pretrained()
    moved = {name for name, p in start.named_parameters() if not torch.equal(p, end.get_parameter(name))}
    assert moved == {name for name, _ in start.named_parameters()}
    assert all(
        torch.equal(p, other.bert.layers.get_parameter(name)) for name, p in start.bert.layers.named_parameters()
    )
    assert not torch.equal(start.heads["rte"].weight, other.heads["rte"].weight)  # of another seed
    assert not start.training and not end.training


def test_the_datasets_are_those_of_the_run(runs):
    assert len(runs[0].dataset("train")) == 40
    assert len(runs[0].dataset("dev")) == 277


def test_batches_hold_each_example_once(runs):
    dataset = runs[0].dataset()
    assert sorted(int(i) for batch in batches(dataset, 32, CPU) for i in batch.index) == list(range(277))
    assert sorted(int(i) for batch in batches(dataset, 32, CPU, examples=13) for i in batch.index) == list(range(13))


def test_the_settings_of_a_run_with_a_constant_learning_rate_are_read(tmp_path):
    """Saved settings are resolved, so they hold a warm-up of 0. --resume reads them in the same way."""
    settings = make_run(tmp_path / "run", "--schedule", "constant").settings
    assert (settings.schedule, settings.warmup) == ("constant", 0.0)


def test_a_run_without_a_model_is_refused(tmp_path):
    run = make_run(tmp_path / "run", "--save", "none")
    with pytest.raises(InputError, match="kept no model: the run needs --save model"):
        run.trained()


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json does not exist"):
        FinishedRun(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    run = make_run(tmp_path / "run", "--lr", "1e30", "--max-steps", "1")
    with pytest.raises(InputError, match="the last step left weights that are not finite"):
        run.trained()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: {},
        lambda values: {"eval_accuracy": 0.7, "failed": False},  # of another program
        lambda values: values | {"failed": "no"},
        lambda values: values | {"score": "0.7"},
        lambda values: values | {"history": [{"epoch": 1}]},
        lambda values: values | {"history": [{"epoch": 1, "dev": {"score": None}}]},
        lambda values: {name: value for name, value in values.items() if name != "majority"},
    ],
)
def test_damaged_metrics_are_refused(runs, tmp_path, change):
    folder = shutil.copytree(runs[0].folder, tmp_path / "run")
    (folder / "metrics.json").write_text(json.dumps(change(runs[0].metrics)))
    with pytest.raises(InputError, match=r"metrics\.json is not that of a finished run"):
        FinishedRun(folder)


def with_settings(run: FinishedRun, name: str, score: float | None = 0.6, **settings) -> FinishedRun:
    """The same run in another folder, which does not exist, with other settings."""
    other = FinishedRun(run.folder)
    other.folder = run.folder.parent / name
    other.settings = replace(run.settings, **settings)
    other.tasks = tasks_of_run(run.folder, other.settings)
    other.metrics["score"] = score
    return other


def test_runs_that_cannot_be_in_one_figure_are_refused(runs):
    with pytest.raises(InputError, match=r"a RUN is given twice: .*rte-seed0"):
        check_runs([runs[0], runs[1], runs[0]])
    with pytest.raises(InputError, match=r"mrpc is of another task than .*rte-seed0"):
        check_same_task([*runs, with_settings(runs[0], "mrpc", task="mrpc")])
    with pytest.raises(InputError, match=r"x has other --pairs than .*rte-seed0"):
        check_same_task([*runs, with_settings(runs[0], "x", pairs="separate")])
    with pytest.raises(InputError, match="other is not a folder with a model"):
        check_models([runs[0], with_settings(runs[0], "x", model="/nowhere/other")])
    with pytest.raises(InputError, match=r"x has another model than .*rte-seed0"):
        check_models([runs[0], with_settings(runs[0], "x", model=str(runs[0].folder))])
    with pytest.raises(InputError, match="x: a loss was not finite"):
        check_models([runs[0], with_settings(runs[0], "x", score=None)])
    with pytest.raises(InputError, match="x kept no model"):
        check_kept([*runs, with_settings(runs[0], "x")])
    check_runs(runs), check_same_task(runs), check_models(runs), check_kept(runs)


def test_runs_of_one_recipe_differ_in_their_seeds_and_in_what_does_not_change_the_training(runs):
    free = {"save": "none", "record": ("gradients",), "record_every": 5, "evaluate": ("dev", "train")}
    same = with_settings(runs[0], "rte-seed2", seed=2, data_seed=7, **free)
    slow = with_settings(runs[0], "rte-slow-seed0", lr=1e-6)
    assert group_by_recipe([slow, *runs, same]) == {"rte-slow": [slow], "rte": [*runs, same]}


def test_recipes_of_one_name_are_not_averaged(runs):
    slow = with_settings(runs[0], "elsewhere/rte-seed0", lr=1e-6)
    assert group_by_recipe([*runs, slow]) == {str(runs[0].folder): runs, str(slow.folder): [slow]}


def test_the_short_name_of_a_recipe_is_its_task_where_that_is_enough(runs):
    mrpc, slow = with_settings(runs[0], "x-seed0", task="mrpc"), with_settings(runs[0], "rte-slow-seed0", lr=1e-6)
    assert list(group_by_recipe([mrpc, *runs], short_names=True)) == ["mrpc", "rte"]
    assert list(group_by_recipe([slow, *runs], short_names=True)) == ["rte-slow", "rte"]


@pytest.mark.parametrize("value, text", [(1 / 3, "0.333333"), (None, ""), (float("nan"), ""), (7, "7"), ("a", "a")])
def test_tsv_values(value, text):
    assert tsv_value(value) == text


def draw_nothing(args, files: FigureFiles) -> None:
    files.write_table("numbers", ["a", "b"], [(1, 0.5), ("x", None)])


def test_a_script_writes_its_files_and_says_so(runs, tmp_path, capsys):
    argv = [str(runs[0].folder), "--out", str(tmp_path / "out")]
    assert run_figure(figure_parser("papers.x", ""), argv, draw_nothing) == 0
    assert (tmp_path / "out" / "numbers.tsv").read_text() == "a\tb\n1\t0.5\nx\t\n"
    assert f"{tmp_path / 'out' / 'numbers.tsv'}  " in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_refused_before_the_computation(runs, tmp_path, capsys):
    (tmp_path / "file").touch()

    def draw(args, files):
        raise AssertionError("computed in vain")

    argv = [str(runs[0].folder), "--out", str(tmp_path / "file" / "out")]
    assert run_figure(figure_parser("papers.x", ""), argv, draw) == 2
    assert capsys.readouterr().err.startswith(f"python -m papers.x: --out {argv[2]} cannot be written: ")


def test_a_script_refuses_what_is_no_run_in_one_line(tmp_path, capsys):
    assert run_figure(figure_parser("papers.x", ""), [str(tmp_path)], draw_nothing) == 2
    assert capsys.readouterr().err == f"python -m papers.x: {tmp_path / 'metrics.json'} does not exist\n"

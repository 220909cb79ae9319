"""FinishedRun gives back the run's model, start and data; the scripts' command line ends as all programs do."""

import numpy as np
import pytest
import torch

from minbert.errors import InputError
from papers.figure import FigureFiles, figure_parser, run_figure, tsv_value
from papers.finished_run import FinishedRun, batches
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


def test_a_script_refuses_what_is_no_run_in_one_line(tmp_path, capsys):
    assert run_figure(figure_parser("papers.x", ""), [str(tmp_path)], draw_nothing) == 2
    assert capsys.readouterr().err == f"python -m papers.x: {tmp_path / 'metrics.json'} does not exist\n"

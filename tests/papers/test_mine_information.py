"""papers/mine/: the binned information has the properties of information, and the estimate by MINE those of a bound."""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.factories import KINDS, make_dataset, make_model

from minbert.errors import InputError
from minbert.report.figure_files import FigureFiles
from papers.finished_run import FinishedRun, check_same_data
from papers.mine.estimates import (
    bin_numbers,
    binned_information,
    cls_states,
    entropy,
    information_by_binning,
    information_by_mine,
    shuffle_layers,
)
from papers.mine.information import Estimates, choose_batches, choose_channels, main, table_rows
from tests.papers.conftest import make_run

CPU = torch.device("cpu")
BINS = (1, 7, 30, 50_000)


def pairs(n: int = 613, rho: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n draws of two normal variables with correlation rho."""
    x, noise = np.random.default_rng(seed).normal(size=(2, n))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def slow_information(x, y, bins: int) -> float:
    """Σ p(a,b) log(p(a,b) / p(a) p(b)), with the edges of the bins searched one by one."""

    def number(value, values) -> int:
        low, high = min(values), max(values)
        k = 0
        while k < bins - 1 and (value - low) / (high - low) >= (k + 1) / bins:
            k += 1
        return k

    a, b = [number(v, x) for v in x], [number(v, y) for v in y]
    n, joint, left, right = len(a), Counter(zip(a, b)), Counter(a), Counter(b)
    return sum(c / n * math.log(c * n / (left[i] * right[j])) for (i, j), c in joint.items())


@pytest.mark.parametrize("bins", [2, 7, 30])
def test_the_information_is_that_of_a_slow_loop(bins):
    x, y = pairs(n=157)
    assert binned_information(x, y, bins) == pytest.approx(slow_information(list(x), list(y), bins), rel=1e-10)


@pytest.mark.parametrize("bins", BINS)
def test_a_channel_knows_all_of_itself(bins):
    x, _ = pairs()
    assert binned_information(x, x, bins) == pytest.approx(entropy(bin_numbers(x, bins)), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("bins", BINS)
def test_the_information_is_symmetric_and_between_0_and_the_smaller_entropy(bins):
    x, y = pairs()
    information = binned_information(x, y, bins)
    assert information == pytest.approx(binned_information(y, x, bins), rel=1e-12, abs=1e-12)
    assert -1e-12 <= information <= min(entropy(bin_numbers(v, bins)) for v in (x, y)) + 1e-12


@pytest.mark.parametrize("scale, shift", [(4.0, 16.0), (0.25, -8.0), (-2.0, 1.0)])
@pytest.mark.parametrize("bins", [7, 1000])
def test_scaling_and_shifting_a_channel_changes_nothing(scale, shift, bins):
    """In multiples of 1/1024, so that nothing is rounded. With an odd step no value is on the edge of a bin."""
    x, y = (np.round(v * 512) / 512 for v in pairs())
    x[np.argmax(x)] += 1 / 1024
    assert binned_information(scale * x + shift, y, bins) == pytest.approx(binned_information(x, y, bins), abs=1e-12)


def test_one_bin_and_a_constant_channel_have_no_information():
    x, y = pairs()
    assert binned_information(x, y, 1) == 0
    assert binned_information(np.full(613, 3.5), y, 30) == pytest.approx(0, abs=1e-12)


def test_the_bins_are_equally_wide_and_the_maximum_is_in_the_last_one():
    values = np.array([0.0, 0.24, 0.25, 0.5, 0.99, 1.0], np.float32)
    assert bin_numbers(values, 4).tolist() == [0, 0, 1, 2, 3, 3]
    assert entropy(np.array([4, 4, 9, 9])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_normal_variables_have_the_information_of_the_closed_form(rho):
    x, y = pairs(n=400_000, rho=rho)
    assert binned_information(x, y, 60) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.02)


def test_with_few_examples_fifty_thousand_bins_show_log_n_for_any_two_channels():
    """The bias that the header of information.py names."""
    for rho in (0.0, 0.9):
        assert binned_information(*pairs(n=500, rho=rho), 50_000) == pytest.approx(math.log(500), rel=0.01)


def test_each_channel_is_compared_with_the_same_channel_of_the_next_layer():
    states = np.random.default_rng(0).normal(size=(60, 4, 5))
    values = information_by_binning(states, [3, 1], 6)
    assert values.shape == (2, 3)
    assert values[1, 2] == binned_information(states[:, 2, 1], states[:, 3, 1], 6)


def test_shuffled_layers_hold_the_same_states_in_other_orders():
    states = np.random.default_rng(0).normal(size=(41, 3, 2))
    shuffled = shuffle_layers(states)
    for i in range(3):
        order = [int(np.flatnonzero((states[:, i] == row).all(1))[0]) for row in shuffled[:, i]]
        assert sorted(order) == list(range(41)) and order != list(range(41))
    assert not np.array_equal(np.argsort(shuffled[:, 0, 0]), np.argsort(shuffled[:, 1, 0]))
    assert np.array_equal(shuffled, shuffle_layers(states))


def make_batches(size: int = 40, batch_size: int = 8) -> list:
    dataset = make_dataset(size=size)
    return [dataset.collate(rows) for rows in dataset.by_length(batch_size)]


def test_the_states_are_those_of_cls_without_dropout():
    model, batches = make_model().train(), make_batches(24)
    states = cls_states(model, batches)
    assert states.shape == (24, 3, 12)
    with torch.no_grad():
        hidden = model.eval()(batches[1]).hidden
    np.testing.assert_array_equal(states[8:16, 2], hidden[3][:, 0].numpy())


def test_mine_gives_a_bound_for_each_pair_of_layers():
    model, batches = make_model(num_hidden_layers=4), make_batches()
    information = information_by_mine(model, batches)
    assert information.shape == (3,) and (information <= math.log(8)).all()
    assert torch.equal(information, information_by_mine(model, batches))


def test_mine_sees_that_layers_share_information(monkeypatch):
    """More than in a model whose layers forget their input: there each layer's [CLS] is noise of its own."""
    monkeypatch.setattr("regularizers.first_stage.STEPS", 200)
    monkeypatch.setattr("regularizers.first_stage.EVERY", 50)
    model, batches = make_model(), make_batches(160, 16)
    shared = information_by_mine(model, batches)
    for layer in model.bert.layers:
        layer.register_forward_hook(lambda module, inputs, output: torch.randn_like(output))
    assert (shared > 0.5).all() and (information_by_mine(model, batches) < 0.2).all()


def test_all_runs_are_measured_on_the_same_full_batches(runs):
    first, second = (choose_batches(run, 8, 26, CPU) for run in runs)
    assert [len(batch) for batch in first] == [8, 8, 8]
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(first, second, strict=True))
    assert [len(batch) for batch in choose_batches(runs[0], 9, 1000, CPU)] == [9, 9, 9, 9]  # 40 examples
    for batch_size, examples, text in ((8, 15, "not 1 full batches of 8"), (4, 40, "not 10 full batches of 4")):
        with pytest.raises(InputError, match=text):
            choose_batches(runs[0], batch_size, examples, CPU)


def test_the_channels_are_five_different_ones_and_always_the_same():
    assert choose_channels(128) == choose_channels(128) and len(set(choose_channels(128))) == 5
    assert choose_channels(3) == [0, 1, 2]


def test_runs_with_other_training_sets_are_refused(runs):
    other = FinishedRun(runs[1].folder)
    other.settings = replace(other.settings, train_size=24)
    check_same_data(runs, "train")
    with pytest.raises(InputError, match="has another train set than"):
        check_same_data([runs[0], other], "train")


def test_the_rows_of_the_table():
    binned = {50_000: np.array([[1.0, 2.0]]), 30: np.array([[3.0, 4.0]])}
    shuffled = {bins: values / 2 for bins, values in binned.items()}
    rows = table_rows("line", "run", Estimates(binned, shuffled, np.array([5.0, 6.0])), [17])
    assert rows == [
        ("line", "run", "1-2", "binning 50000", 17, 1.0, 0.5),
        ("line", "run", "2-3", "binning 50000", 17, 2.0, 1.0),
        ("line", "run", "1-2", "binning 30", 17, 3.0, 1.5),
        ("line", "run", "2-3", "binning 30", 17, 4.0, 2.0),
        ("line", "run", "1-2", "MINE", None, 5.0, None),
        ("line", "run", "2-3", "MINE", None, 6.0, None),
    ]


def test_the_script_writes_table_and_pictures(runs, tmp_path):
    argv = [*(str(run.folder) for run in runs), "--batch-size", "8", "--device", "cpu", "--out", str(tmp_path)]
    assert main(argv) == 0
    assert {"information.png", "information-channels.png"} <= {path.name for path in tmp_path.iterdir()}
    rows = [line.split("\t") for line in (tmp_path / "information.tsv").read_text().splitlines()[1:]]
    assert [row[1] for row in rows[::33]] == ["", "rte-seed0", "rte-seed1"] and len(rows) == 99
    most = float(f"{math.log(40):.6g}")  # the table has six digits
    assert all(float(row[5]) <= most and row[7] == "40" for row in rows)


def test_the_limits_count_the_sentences_that_are_encoded_separately(tmp_path, monkeypatch):
    """40 pairs in batches of 8 are 80 sentences in batches of 16."""
    run, pictures = make_run(tmp_path / "run", "--pairs", "separate"), {}
    binned = {bins: np.ones((5, 3)) for bins in (50_000, 30)}
    found = Estimates(binned, binned, np.ones(3))
    monkeypatch.setattr("papers.mine.information.estimate", lambda *_: found)
    monkeypatch.setattr(FigureFiles, "write_picture", lambda self, name, figure: pictures.update({name: figure}))
    assert main([str(run.folder), "--batch-size", "8", "--device", "cpu", "--out", str(tmp_path)]) == 0
    rows = (tmp_path / "information.tsv").read_text().splitlines()[1:]
    assert {row.split("\t")[-1] for row in rows} == {"80"}
    limits = f"binning shows at most log n = {math.log(80):.2f}, MINE log 16 = {math.log(16):.2f}"
    assert limits in pictures["information"].get_suptitle()


def test_a_run_whose_loss_was_not_finite_is_refused(runs, tmp_path, capsys):
    folder = shutil.copytree(runs[0].folder, tmp_path / "diverged")
    unknown = dict.fromkeys(("score", "steps", "history"))
    (folder / "metrics.json").write_text(json.dumps(runs[0].metrics | unknown))
    assert main([str(runs[1].folder), str(folder), "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "a loss was not finite, so there is no model to look into" in capsys.readouterr().err


def test_states_of_sentences_that_are_encoded_separately():
    task = KINDS["separate classes"]
    dataset = make_dataset(task, size=24)
    batches = [dataset.collate(rows) for rows in dataset.by_length(8)]
    model = make_model(task)
    assert cls_states(model, batches).shape == (48, 3, 12)
    assert information_by_mine(model, batches).shape == (2,)

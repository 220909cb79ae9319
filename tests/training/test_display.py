"""What a user sees of the progress: a bar on a terminal, lines where there is none."""

import io
import sys
import time

import pytest

from minbert.training.display import Display, describe_kept_epoch, describe_scores

ROW = {
    "step": 3, "steps": 9, "epoch": 2, "loss": 1.5, "losses": {"sst5": 1.0, "sts": 2.0}, "lr": 1e-3,
    "penalty": {"a": 0.25, "b": 0.5}, "tokens_per_second": 1234.4, "seconds_left": 62.0,
}  # fmt: skip
TEXT = "loss 1.5000 (sst5 1.0000, sts 2.0000)  penalty 0.7500  lr 1.0e-03  1234 tokens/s"


def shown(row: dict, show_tasks: bool = True, active: bool = True) -> None:
    display = Display(9, show_tasks, active, output_closed=pytest.fail)
    display.show_row(row)
    display.show_step(row["step"])
    display.show_scoring("rte dev", 1, 2)
    display.close()


def test_without_a_terminal_each_row_of_the_log_is_one_line(capsys):
    shown(ROW)
    assert capsys.readouterr() == (f"step 3/9  epoch 2  {TEXT}  01:02 left\n", "")
    shown(ROW | {"penalty": {}}, show_tasks=False)
    assert capsys.readouterr().out == "step 3/9  epoch 2  loss 1.5000  lr 1.0e-03  1234 tokens/s  01:02 left\n"


def test_on_a_terminal_a_bar_stands_in_place_of_the_lines(monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    shown(ROW)
    assert "3/9" in terminal.getvalue() and "loss 1.5000" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_without_a_terminal_there_is_a_line_at_least_every_ten_seconds(monkeypatch, capsys):
    """So a slow machine does not look dead. On a fast one there are only the lines of the log."""
    times = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: times[-1])
    display = Display(99, False, active=True, output_closed=pytest.fail)
    printed = []
    for seconds, show in (
        (9.9, lambda: display.show_step(1)),
        (10.0, lambda: display.show_step(2)),
        (19.9, lambda: display.show_step(3)),
        (20.0, lambda: display.show_scoring("rte dev", 8, 40)),
        (25.0, lambda: display.show_row(ROW)),
        (34.9, lambda: display.show_scoring("rte dev", 16, 40)),
        (35.0, lambda: display.show_step(4)),
    ):
        times.append(seconds)
        show()
        printed.append(capsys.readouterr().out)
    assert printed[:4] == ["", "step 2/99\n", "", "scoring rte dev: 8/40 examples\n"]
    assert printed[4].startswith("step 3/9  epoch 2") and printed[5:] == ["", "step 4/99\n"]


def test_on_a_terminal_the_bar_follows_each_step_and_the_scoring(monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    times = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: times[-1])
    display = Display(99, False, active=True, output_closed=pytest.fail)
    display.show_step(7)
    assert display.bar.n == 7
    for seconds, done in ((20.0, 8), (20.05, 16), (20.2, 24)):
        times.append(seconds)
        display.show_scoring("rte dev", done, 40)
    display.close()
    text = terminal.getvalue()
    assert "scoring rte dev: 8/40 examples" in text and "24/40" in text
    assert "16/40" not in text  # the bar is drawn at most ten times a second
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("on_terminal", [False, True])
def test_only_the_main_process_shows_anything(monkeypatch, capsys, on_terminal):
    terminal = io.StringIO()
    terminal.isatty = lambda: on_terminal
    monkeypatch.setattr(sys, "stderr", terminal)
    shown(ROW, active=False)
    assert terminal.getvalue() == capsys.readouterr().out == ""


def test_scores_of_a_regression_come_with_the_spread_of_its_predictions():
    scores = {"score": 0.75, "metrics": {"pearson": 0.75}, "majority": {"pearson": 0.0}}
    assert describe_scores(scores) == "score 0.7500 (pearson 0.7500; majority class 0.0000)"
    values = {"prediction_mean": 1.87, "prediction_std": 0.61, "label_mean": 3.56, "label_std": 1.02}
    text = describe_scores(scores | {"regression": values | {"mean_squared_error": 3.82}})
    assert text.endswith("predictions 1.87 ± 0.61, labels 3.56 ± 1.02, mean squared error 3.82")


def test_the_kept_epoch_is_compared_with_the_last_or_the_best():
    first, second, third = ({"epoch": e, "dev": {"score": s}} for e, s in ((1, 0.25), (2, 0.5), (3, 0.25)))
    assert describe_kept_epoch(second, second, third) == "kept epoch 2, the best on dev: the last, epoch 3, has 0.2500"
    assert describe_kept_epoch(third, second, third) == "kept epoch 3, the last: epoch 2 has the best dev score, 0.5000"
    for best in (first, third):  # the best is the first of equals
        expected = "kept epoch 3, the last: no epoch has a better dev score"
        assert describe_kept_epoch(third, best, third) == expected

"""What a run prints: a progress bar or plain lines while it trains, and the texts of its scores."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

SILENCE = 10.0  # seconds after which a line says that the run still goes on
REFRESH = 0.1  # seconds between two changes of the bar while a model is scored


class Display:
    """A bar on a terminal; elsewhere a line for each row of the log. Silent on all ranks but the main one.

    `output_closed` is called if standard output can no longer be written to.
    """

    def __init__(self, total_steps: int, show_tasks: bool, active: bool, output_closed: Callable[[], object]):
        self.show_tasks, self.active, self.output_closed = show_tasks, active, output_closed
        hidden = not (active and sys.stderr is not None and sys.stderr.isatty())
        self.bar = tqdm(total=total_steps, unit="step", disable=hidden, dynamic_ncols=True)
        self.last_change = time.monotonic()

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        if self.active:
            self.write(text)

    def write(self, text: str) -> None:
        self.last_change = time.monotonic()
        if sys.stdout is None:  # the program was started with `>&-`
            return
        try:
            tqdm.write(text)
            sys.stdout.flush()
        except OSError:
            self.output_closed()

    def show_row(self, row: dict) -> None:
        """Show one row of the log."""
        if not self.active:
            return
        loss = f"loss {row['loss']:.4f}"
        if self.show_tasks:
            loss += f" ({', '.join(f'{task} {value:.4f}' for task, value in row['losses'].items())})"
        if row["penalty"]:
            loss += f"  penalty {sum(row['penalty'].values()):.4f}"
        text = f"{loss}  lr {row['lr']:.1e}  {row['tokens_per_second']:.0f} tokens/s"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(row["step"] - self.bar.n)
        if self.bar.disable:
            left = tqdm.format_interval(row["seconds_left"])
            self.write(f"step {row['step']}/{row['steps']}  epoch {row['epoch']}  {text}  {left} left")

    def show_step(self, step: int) -> None:
        """Move the bar. Elsewhere a line after ten silent seconds tells that a slow machine is not dead."""
        if self.active:
            self.bar.update(step - self.bar.n)
            self.write_after_silence(f"step {step}/{self.bar.total}")

    def show_scoring(self, split: str, done: int, total: int) -> None:
        """Tell how many examples of a split are scored."""
        if not self.active:
            return
        text = f"scoring {split}: {done}/{total} examples"
        self.write_after_silence(text)
        if not self.bar.disable and time.monotonic() - self.last_change >= REFRESH:
            self.bar.set_postfix_str(text)
            self.last_change = time.monotonic()

    def write_after_silence(self, text: str) -> None:
        if self.bar.disable and time.monotonic() - self.last_change >= SILENCE:
            self.write(text)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()


def describe_scores(scores: dict) -> str:
    """score 0.8262 (accuracy 0.7892, f1 0.8632; majority class 0.6838, 0.8122)"""
    values = ", ".join(f"{name} {value:.4f}" for name, value in scores["metrics"].items())
    majority = ", ".join(f"{value:.4f}" for value in scores["majority"].values())
    text = f"score {scores['score']:.4f} ({values}; majority class {majority})"
    return f"{text}, {describe_regression(scores['regression'])}" if "regression" in scores else text


def describe_regression(values: dict[str, float]) -> str:
    """predictions 1.87 ± 0.61, labels 3.56 ± 1.02, mean squared error 3.82: means and standard deviations"""
    predictions = f"predictions {values['prediction_mean']:.2f} ± {values['prediction_std']:.2f}"
    labels = f"labels {values['label_mean']:.2f} ± {values['label_std']:.2f}"
    return f"{predictions}, {labels}, mean squared error {values['mean_squared_error']:.2f}"


def describe_kept_epoch(kept: dict, best: dict, last: dict) -> str:
    """Which epoch's weights the run keeps, and how they compare on dev. The arguments are entries of the history."""
    if kept is last and last["dev"]["score"] == best["dev"]["score"]:
        return f"kept epoch {kept['epoch']}, the last: no epoch has a better dev score"
    if kept is best:
        other = f"the last, epoch {last['epoch']}, has {last['dev']['score']:.4f}"
        return f"kept epoch {kept['epoch']}, the best on dev: {other}"
    other = f"epoch {best['epoch']} has the best dev score, {best['dev']['score']:.4f}"
    return f"kept epoch {kept['epoch']}, the last: {other}"

"""python -m benchmarks.gpu, tried where there is no GPU: every section runs, and the committed report has its form."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.factories import CPU

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import methods, training
from benchmarks.gpu.work import FULL, RTE_LENGTHS, SMALLEST, TINY, Trainer, Work
from regularizers import OPTIONS
from regularizers.base import Method

ROOT = Path(__file__).resolve().parents[2]


def form(report: str) -> list[str]:
    """The report without its numbers, its dates, and the rows of the transformers comparison, which may be missing."""
    report = re.sub(r"## Compared with transformers.*?(?=\n## )", "", report, flags=re.DOTALL)
    return [re.sub(r"(?<![a-z])[\d.,]+", "0", line) for line in report.splitlines()[4:] if not line.startswith("- ")]


def test_a_tiny_report_on_a_cpu_has_every_section(tmp_path, monkeypatch, capsys):
    chosen = {name: OPTIONS[name] for name in ("finetune", "smart", "mine")}
    monkeypatch.setattr(methods, "OPTIONS", chosen)
    assert gpu.main(["--tiny", "--device", "cpu", "--out", str(tmp_path / "gpu-tiny.md")]) == 0
    report = (tmp_path / "gpu-tiny.md").read_text(encoding="utf-8")
    assert report == capsys.readouterr().out and all(f"\n## {title}\n" in report for title in gpu.SECTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-tiny.md"]
    committed = form((ROOT / "benchmarks" / "results" / "gpu-tiny.md").read_text(encoding="utf-8"))
    others = tuple(f"| {name} |" for name in OPTIONS if name not in chosen)
    assert form(report) == [line for line in committed if not line.startswith(others)]


def test_a_report_whose_time_is_over_says_what_it_left_out():
    lines = list(gpu.report(Work(CPU.device, TINY), "command", seconds=0.0))
    left_out = [line for line in lines if "not measured: the time was over" in line]
    assert len(left_out) == len(gpu.SECTIONS) and not any(line.startswith("|") for line in lines)


def test_a_section_that_fails_does_not_lose_the_others(monkeypatch):
    def too_large(work):
        """It needs more memory than there is."""
        yield "first row"
        raise RuntimeError("CUDA out of memory\nTraceback")

    monkeypatch.setattr(gpu, "SECTIONS", {"Large": too_large, "Machine": gpu.machine})
    text = "\n".join(gpu.report(Work(CPU.device, TINY), "command", seconds=60.0))
    assert "first row\n\nThe rest of this section failed: RuntimeError: CUDA out of memory\n" in text
    assert "- device: cpu" in text


def test_shared_layers_multiply_a_token_once_each():
    shared = replace(SMALLEST, share_layers=True)
    work = Work(CPU.device, replace(TINY, models={"tiny": SMALLEST, "shared": shared}))
    counts = [Trainer(work, name).layer_parameters() for name in work.models]
    assert counts[0] == counts[1] > 0


def test_a_trainer_has_the_method_and_compiled_layers_as_asked():
    work = Work(CPU.device, TINY)
    method = Trainer(work, "tiny", "smart", "fp32").objective.method
    assert list(method.parts) == ["smart"]
    for compiled in (False, True):
        layers = Trainer(work, "tiny", compiled=compiled).objective.model.bert.layers
        assert all((layer._compiled_call_impl is not None) == compiled for layer in layers)
    assert Trainer(work, "tiny").layer_parameters() == 2 * (4 * 32 * 33 + 2 * 32 * 64 + 64 + 32 + 4 * 32)


def test_costs_are_relative_to_plain_fine_tuning_and_mfu_counts_six_operations(monkeypatch):
    def train(self, *_, **__):
        option = "finetune" if type(self.objective.method) is Method else next(iter(self.objective.method.parts), "")
        return {"steps": 2, "seconds": 3.0 if option == "smart" else 2.0, "examples_per_second": 1.0,
                "tokens_per_second": 10.0}  # fmt: skip

    monkeypatch.setattr(Trainer, "train", train)
    monkeypatch.setattr(methods, "OPTIONS", {name: OPTIONS[name] for name in ("finetune", "smart")})
    monkeypatch.setattr(training, "matrix_rate", lambda *_: 6 * 100.0 * 10 * 2)
    monkeypatch.setattr(Trainer, "layer_parameters", lambda self: 100)
    work = Work(CPU.device, TINY)
    assert list(methods.costs(work))[1:] == ["| finetune | bf16 | 1.00 | - |", "| smart | fp32 | 1.50 | - |"]
    assert all(row.endswith("| 1.0 | 10 | 50.0% |") for row in list(training.half_precision(work))[1:])


@pytest.mark.parametrize(
    "intervals, idle", [([], 0.0), ([(0, 4)], 0.0), ([(6, 8), (0, 2)], 0.5), ([(0, 4), (1, 2), (3, 6), (9, 10)], 0.3)]
)
def test_the_idle_share_is_what_no_interval_covers(intervals, idle):
    assert methods.idle_share(intervals) == pytest.approx(idle)


def test_made_up_texts_have_the_lengths_that_they_should_have():
    """One word is one token, and [CLS] and two [SEP] count."""
    dataset = Work(CPU.device, FULL).dataset("as in RTE")
    assert dataset.lengths[:40].tolist() == 2 * list(RTE_LENGTHS)
    assert set(Work(CPU.device, FULL).dataset("fixed 128").lengths.tolist()) == {128}


def test_a_real_model_and_its_text_take_the_place_of_the_first_model(model_folder, data_folder):
    work = Work(CPU.device, TINY, model_folder, data_folder)
    assert list(work.models) == [model_folder.name] and len(work.dataset("as in RTE")) == 120
    assert Trainer(work, model_folder.name, precision="fp32").train("as in RTE", 8)["steps"] == TINY.steps


@pytest.mark.parametrize("flags, message", [([], "no such device"), (["--model", "x"], "--model and --data belong")])
def test_a_mistake_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([*flags, "--out", str(tmp_path / "gpu.md")]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())

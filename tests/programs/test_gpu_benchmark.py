"""python -m benchmarks.gpu, tried where there is no GPU: every section runs, and the committed report has its form."""

import re
from pathlib import Path

import pytest
from support.factories import CPU

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import methods
from benchmarks.gpu.work import FULL, RTE_LENGTHS, TINY, Trainer, Work
from minbert.errors import InputError
from regularizers import OPTIONS

ROOT = Path(__file__).resolve().parents[2]


def form(report: str) -> list[str]:
    """The report without its numbers, its dates, and the rows of the transformers comparison, which may be missing."""
    report = re.sub(r"## Compared with transformers.*?(?=\n## )", "", report, flags=re.DOTALL)
    return [re.sub(r"(?<![a-z])[\d.,]+", "0", line) for line in report.splitlines()[4:] if not line.startswith("- ")]


def test_a_tiny_report_on_a_cpu_has_every_section(tmp_path, monkeypatch, capsys):
    chosen = {name: OPTIONS[name] for name in ("finetune", "smart", "mine")}
    monkeypatch.setattr(methods, "OPTIONS", chosen)
    gpu.main(["--tiny", "--device", "cpu", "--out", str(tmp_path / "gpu-tiny.md")])
    report = (tmp_path / "gpu-tiny.md").read_text(encoding="utf-8")
    assert report == capsys.readouterr().out and all(f"\n## {title}\n" in report for title in gpu.SECTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-tiny.md"]
    committed = form((ROOT / "benchmarks" / "results" / "gpu-tiny.md").read_text(encoding="utf-8"))
    others = tuple(f"| {name} |" for name in OPTIONS if name not in chosen)
    assert form(report) == [line for line in committed if not line.startswith(others)]


def test_a_report_whose_time_is_over_says_what_it_left_out():
    lines = list(gpu.report(Work(CPU.device, TINY), "command", seconds=0.0))
    left_out = [line for line in lines if "The rest was not measured" in line]
    assert len(left_out) == len(gpu.SECTIONS)
    assert not any(line.startswith("| tiny") for line in lines)


def test_made_up_texts_have_the_lengths_that_they_should_have():
    """One word is one token, and [CLS] and two [SEP] count."""
    dataset = Work(CPU.device, FULL).dataset("as in RTE")
    assert dataset.lengths[:40].tolist() == 2 * list(RTE_LENGTHS)
    assert set(Work(CPU.device, FULL).dataset("fixed 128").lengths.tolist()) == {128}


def test_a_real_model_and_its_text_take_the_place_of_the_first_model(model_folder, data_folder):
    work = Work(CPU.device, TINY, model_folder, data_folder)
    assert list(work.models) == [model_folder.name] and len(work.dataset("as in RTE")) == 120
    assert Trainer(work, model_folder.name, precision="fp32").train("as in RTE", 8)["steps"] == TINY.steps


def test_a_machine_without_a_gpu_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no such device"):
        gpu.main(["--out", str(tmp_path / "gpu.md")])

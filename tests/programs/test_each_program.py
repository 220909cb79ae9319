"""Each program can be started, and answers an unknown flag with one line and exit status 2."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = "study/worker.py"  # only `python -m study` starts it
FILES = [
    ROOT / "train.py",
    ROOT / "multitask.py",
    *(f for room in ("minbert", "study", "papers") for f in ROOT.glob(f"{room}/**/*.py")),
]
PROGRAMS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in FILES
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8") or path.name == "__main__.py"
)


def test_the_programs_are_found():
    known = {"train.py", "minbert/export.py", "minbert/report/__main__.py", "papers/equations.py", WORKER}
    assert known <= set(PROGRAMS)


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != WORKER])
def test_an_unknown_flag_is_one_line_and_status_2(program, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [program, "--unknown-flag"])
    module = program.removesuffix(".py").replace("/", ".")
    monkeypatch.delitem(sys.modules, module, raising=False)  # of another test's import: runpy would warn
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module.removesuffix(".__main__"), run_name="__main__")
    output = capsys.readouterr()
    assert end.value.code == 2
    assert output.err.count("\n") == 1 and output.out == ""

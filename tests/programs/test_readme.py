"""The commands of the README, and the links of all of them."""

import re
import shlex
from pathlib import Path

import pytest

import multitask
import train
from minbert.submission import parse as parse_submission
from minbert.training.arguments import parse_settings
from minbert.training.settings import MultitaskSettings, Settings
from regularizers import build

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = README.split("\n```")  # text and code in turn
COMMANDS = [line.partition("#")[0] for block in BLOCKS[1::2] for line in block.splitlines() if "python" in line]
MARKED = [code for text, code in zip(BLOCKS[0::2], BLOCKS[1::2]) if text.endswith("<!-- report -->")]
REPORT = [line for block in MARKED for line in block.strip().splitlines()]
PROGRAMS = {"train.py": (train.main, Settings), "multitask.py": (multitask.main, MultitaskSettings)}


def test_there_are_some():
    assert len(COMMANDS) > 15 and len(REPORT) == 11


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_parses(program):
    found = [c.partition(program)[2] for c in COMMANDS if re.search(rf"python3? {program}|torchrun.* {program}", c)]
    assert found
    for flags in found:
        if "--options" not in flags and "..." not in flags and "--resume" not in flags:
            settings = parse_settings(PROGRAMS[program][1], shlex.split(flags), "")
            build(settings.option, settings.set)
    assert all(parse_submission(shlex.split(c)[3:]) for c in COMMANDS if "-m minbert.submission" in c)


@pytest.mark.parametrize("command", REPORT)
def test_the_reports_commands_run(command, model_folder, course, tmp_path):
    """Cut short as README says, with the tiny model; CFIMDB is made of SST's files."""
    _, program, *flags = shlex.split(command, comments=True)
    for split in ("train", "dev"):
        rows = (course / f"ids-sst-{split}.csv").read_text().replace("\t2\n", "\t1\n").replace("\t3\n", "\t1\n")
        (tmp_path / f"ids-cfimdb-{split}.csv").write_text(rows.replace("\t4\n", "\t0\n"))
    for path in course.iterdir():
        (tmp_path / path.name).symlink_to(path)
    more = ["--model", str(model_folder), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    more += ["--train-size", "20", "--epochs", "1"]
    assert PROGRAMS[program][0]([*flags, *more, "--max-length", "32", "--device", "cpu"]) == 0


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, on GitHub."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md", "sample/README.md"])
def test_every_link_leads_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8"))), link

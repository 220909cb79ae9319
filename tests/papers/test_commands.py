"""The commands of READMEs and headers: each names a script, and its parser takes all flags."""

import importlib
import itertools
import re
import shlex
from pathlib import Path

import pytest

from papers.tags import split_header

PAPERS = Path(__file__).resolve().parents[2] / "papers"
TEXTS = [*PAPERS.rglob("README.md"), *PAPERS.glob("*/*.py")]
SCRIPTS = [path for path in sorted(PAPERS.glob("*/*.py")) if "def main(" in path.read_text(encoding="utf-8")]
# A command has a line of its own, or it is `code` in a sentence or in a table.
COMMAND = re.compile(r"^ *(python -m papers\.[^\n`]+)|`(python -m papers\.[^`]+)`", re.MULTILINE)


def find_commands() -> list[tuple[bool, str]]:
    """All commands, once each. Those that are `code` may leave out the RUNs."""
    commands = {}
    for path in TEXTS:
        for line, code in COMMAND.findall(path.read_text(encoding="utf-8")):
            commands[not line, (line or code).strip()] = None
    return list(commands)


def expand_braces(word: str) -> list[str]:
    """a-{b,c} -> a-b a-c, as a shell does."""
    parts = re.split(r"\{([^}]+)\}", word)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


@pytest.mark.parametrize("may_lack_runs, command", find_commands())
def test_the_parser_of_the_script_takes_the_command(may_lack_runs, command, monkeypatch):
    _, _, module, *argv = shlex.split(command)
    script = importlib.import_module(module)
    if not hasattr(script, "run_figure"):
        assert module == "papers.equations" and not argv
        return
    parsed = []
    monkeypatch.setattr(script, "run_figure", lambda parser, argv, draw: parsed.append(parser.parse_args(argv)))
    words = [word for argument in argv for word in expand_braces(argument)]
    if may_lack_runs and not any("RUN" in word or "runs/" in word for word in words):
        number = 2 if module.endswith("surface") else 0 if module.endswith("bias_correction") else 1
        words = ["RUN"] * number + words
    script.main(words)
    assert len(parsed) == 1


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_header_of_a_script_and_its_readme_have_a_command(path):
    command = f"python -m papers.{path.parent.name}.{path.stem}"
    assert command in split_header(path)[0]
    assert command in (path.parent / "README.md").read_text(encoding="utf-8")


def test_braces_are_expanded_as_by_a_shell():
    assert expand_braces("r/{a,b}-{0,1}") == ["r/a-0", "r/a-1", "r/b-0", "r/b-1"]
    assert expand_braces("runs/*") == ["runs/*"]

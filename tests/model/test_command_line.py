"""The parser of every program: errors are one line, flags are never guessed, and a close flag is suggested.

And how a small program ends.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from minbert.command_line import Parser, flag, run_program
from minbert.errors import InputError


@pytest.fixture
def parser() -> Parser:
    parser = Parser(description="A program.\n\n  kept  as  it  is")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tasks", nargs="+")
    return parser


def refusal(parser: Parser, *arguments: str) -> str:
    with pytest.raises(InputError) as error:
        parser.parse_args(arguments)
    return str(error.value)


def test_known_flags_are_parsed(parser):
    values = parser.parse_args(["--batch-size", "4", "--tasks", "a", "b"])
    assert (values.batch_size, values.tasks) == (4, ["a", "b"])


@pytest.mark.parametrize(
    "unknown, known", [("--task", "--tasks"), ("--batchsize", "--batch-size"), ("--batch_size", "--batch-size")]
)
def test_an_unknown_flag_is_refused_with_the_closest_known_one(parser, unknown, known):
    said = refusal(parser, unknown, "4")
    assert said == f"unrecognized arguments: {unknown} 4; did you mean {known}?"


def test_no_flag_is_suggested_where_none_is_close(parser):
    assert refusal(parser, "--nonsense") == "unrecognized arguments: --nonsense"


def test_flags_cannot_be_abbreviated(parser):
    """--batch would be --batch-size today, and something else when a flag --batch appears."""
    assert refusal(parser, "--batch", "4").startswith("unrecognized arguments: --batch 4")


def test_a_value_of_the_wrong_type_is_refused_by_flag(parser):
    assert refusal(parser, "--batch-size", "two") == "argument --batch-size: invalid int value: 'two'"


def test_help_keeps_the_lines_of_the_description(parser, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--help"])
    assert stop.value.code == 0 and "\n  kept  as  it  is\n" in capsys.readouterr().out


def test_the_flag_of_a_setting_has_dashes():
    assert flag("batch_size") == "--batch-size" and flag("seed") == "--seed"


def interrupt() -> None:
    raise KeyboardInterrupt


def mistake() -> None:
    raise InputError("no such thing")


@pytest.mark.parametrize(
    "run, status, message",
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (interrupt, 130, "x: interrupted\n"),
        (mistake, 2, "x: no such thing\n"),
        (Path("/nowhere/at/all").read_text, 2, "x: [Errno 2] No such file or directory: '/nowhere/at/all'\n"),
    ],
    ids=["done", "a status", "Ctrl-C", "a mistake", "a system error"],
)
def test_a_small_program_ends_with_a_status_and_one_line(run, status, message, capsys):
    assert run_program("x", run) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("text", ["'little'", "'much' * 100_000"], ids=["in the buffer", "more than a pipe holds"])
def test_a_closed_output_ends_a_small_program_without_a_word(text):
    program = f"""
import sys
from minbert.command_line import run_program
sys.stdin.read()  # until the reader is gone
sys.exit(run_program("x", lambda: print({text})))
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)


def test_a_character_that_the_output_cannot_encode_is_escaped():
    program = (
        "import sys; from minbert.command_line import run_program; sys.exit(run_program('x', lambda: print('1 ± 2')))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"1 \\xb1 2\n")


def test_a_small_program_works_without_standard_output():
    program = "import sys; from minbert.command_line import run_program; sys.exit(run_program('x', lambda: print('y')))"
    done = subprocess.run(f"exec {sys.executable} -c {shlex.quote(program)} >&-", shell=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")

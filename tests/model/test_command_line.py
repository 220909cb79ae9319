"""The parser of every program: errors are one line, flags are never guessed, and a close flag is suggested."""

import pytest

from minbert.command_line import Parser, flag
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

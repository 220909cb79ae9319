"""The table of options: what --option and --set accept, and what each method's file and the README must say."""

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from minbert.errors import InputError
from papers.tags import definitions, split_header, tagged_lines
from regularizers import OPTIONS, build, describe
from regularizers.base import Method

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted({Path(inspect.getfile(option)) for option in OPTIONS.values() if option is not Method})
PLAIN = next(name for name, option in OPTIONS.items() if option is Method)


class Example(Method):
    """One hyper-parameter of each type."""

    def __init__(
        self,
        *,
        eps: float = 1e-2,
        sigma: float | None = 0.5,
        steps: int = 1,
        freeze: bool = False,
        beta: tuple[float, float] = (0.99, 0.999),
        mode: str = "clamp",
    ):
        super().__init__()
        self.eps, self.sigma, self.steps, self.freeze, self.beta, self.mode = eps, sigma, steps, freeze, beta, mode
        if eps < 0:
            raise ValueError(f"eps must be at least 0, not {eps}")


@pytest.fixture(autouse=True)
def example(monkeypatch):
    monkeypatch.setitem(OPTIONS, "one", Example)
    monkeypatch.setitem(OPTIONS, "other", type("Other", (Example,), {}))


def test_settings_are_converted_to_the_types_of_the_constructor():
    settings = ["one.eps=1e-3", "one.sigma=none", "one.steps=2", "one.freeze=true", "one.beta=0.5,0.75", "one.mode=off"]
    part = build("one", settings).parts["one"]
    assert (part.eps, part.sigma, part.steps, part.freeze, part.beta, part.mode) == (
        1e-3, None, 2, True, (0.5, 0.75), "off"
    )  # fmt: skip


def test_settings_of_joined_methods_reach_their_own_part():
    parts = build("one+other", ["other.steps=3"]).parts
    assert (parts["one"].steps, parts["other"].steps) == (1, 3)


RATES = {"frozen": 1e-3, "adapter": 3e-4, "lora": 5e-4, "pal": 3e-4, "low-rank": 3e-4, "lhuc": 3e-4}


@pytest.mark.parametrize("name", RATES)
def test_a_method_that_freezes_bert_has_the_learning_rate_of_its_header(name):
    """And none of its own if BERT trains too."""
    can_choose = "freeze" in inspect.signature(OPTIONS[name]).parameters
    for settings in ([f"{name}.freeze=false"], [f"{name}.freeze=true"]) if can_choose else ([],):
        method = build(name, settings).parts[name]
        assert method.lr == (RATES[name] if method.freezes else None)


@pytest.mark.parametrize(
    "option, settings, message",
    [
        ("oen", [], f"'oen' is unknown; did you mean one? The options are {PLAIN}, "),
        ("one+one", [], "name each method once"),
        (f"{PLAIN}+one", [], f"{PLAIN} alone"),
        ("one", ["other.eps=1"], "--set other.eps=1: other is not in --option one"),
        ("one", ["one.eps=1", "one.eps=2"], "one.eps is set twice"),
        ("one", ["one.eps"], "'one.eps' must look like smart.eps=1e-3"),
        ("one", ["eps=1"], "'eps=1' must look like smart.eps=1e-3"),
        (
            "one",
            ["one.epsilon=1"],
            "one does not know epsilon; its hyper-parameters are eps, sigma, steps, freeze, beta, mode",
        ),
        ("one", ["one.eps=small"], "--set one.eps=small: not a value of type float"),
        ("one", ["one.steps=1.5"], "--set one.steps=1.5: not a value of type int"),
        ("one", ["one.freeze=1"], "--set one.freeze=1: not a value of type bool"),
        ("one", ["one.beta=0.9"], "--set one.beta=0.9: not 2 numbers with commas between them"),
        ("one", ["one.eps=-1"], "--set one: eps must be at least 0, not -1.0"),
        (PLAIN, [f"{PLAIN}.eps=1"], f"{PLAIN} does not know eps; it has no hyper-parameters"),
    ],
)
def test_a_bad_option_or_setting_is_named_in_one_line(option, settings, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        build(option, settings)
    assert "\n" not in str(error.value)


FLOATS = [(option, key) for option in OPTIONS for key, kind in get_type_hints(OPTIONS[option].__init__).items()
          if kind in (float, float | None)]  # fmt: skip


@pytest.mark.parametrize("option, key", FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_every_number_that_a_method_takes_is_checked(option, key, value):
    with pytest.raises(InputError) as error:
        build(option, [f"{option}.{key}={value}"])
    assert str(error.value).startswith(f"--set {option}: {key} must "), (
        f"{option}: check {key} in the constructor with base.check_not_negative, or raise a ValueError that names it"
    )


def test_describe_lists_every_option_with_its_idea_and_hyper_parameters():
    text = describe()
    for name, option in OPTIONS.items():
        assert f"\n{name} " in f"\n{text}"
        for key in inspect.signature(option).parameters:
            assert key in ("args", "kwargs") or f"{name}.{key}=" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_header_has_its_sections_and_its_tags_are_those_of_the_code(path):
    """Every numbered equation and difference of the header stands at a line of code, and the other way round."""
    header, _ = split_header(path)
    in_header, in_code = {definition.tag for definition in definitions(header)}, set(tagged_lines(path))
    assert in_header == in_code, (
        f"{path.name}: only the header has {sorted(in_header - in_code)}, and only the code has "
        f"{sorted(in_code - in_header)}. End the line of code that computes equation (2) with `# (2)`, and one that "
        "differs from the paper with `# D1`"
    )
    for section in ("Idea:", "Objective", "Symbols:", "Cost:", "Differences:"):
        assert section in header, f"{path.name}: the header has no `{section}`; docs/add-a-method.md shows its form"


SYMBOL = re.compile(r"^ .*?\| self\.(\w+) +\|([^|]*)\|", re.MULTILINE)  # paper | code | default | where
DERIVED = {("smart", "sigma"): "1e-2", ("smart", "eta"): "1", ("noise", "sigma"): "1.5e-2"}  # ε, 100 ε, as in lnsr.py


@pytest.mark.parametrize("option", OPTIONS)
def test_the_defaults_of_a_header_are_those_of_the_code(option):
    part = build(option).parts[option]
    for name, text in SYMBOL.findall(inspect.getmodule(OPTIONS[option]).__doc__):
        if name in inspect.signature(OPTIONS[option]).parameters:  # not a module or a derived value
            own = re.search(rf"{option} (\S+)", text)  # where a file has two methods: 204, low-rank 100
            written = DERIVED.get((option, name)) or (own[1] if own else re.match(r" *([\w.-]+)", text)[1])
            value = getattr(part, name)
            default = "none" if value is None else value
            assert default == (float(written) if isinstance(value, int | float) else written), (
                f"{option}: the header says that the default of {name} is {written}, and it is {default}"
            )


@pytest.mark.parametrize("option", [name for name in OPTIONS])
def test_every_option_has_a_row_in_the_readme(option):
    row = f"| `{option}` |"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8"), (
        f"{option}: add a row to the table of options in README.md, which begins with {row}"
    )

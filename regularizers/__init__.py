"""The table of options: the names of the methods."""

import inspect
import textwrap
from collections.abc import Iterable
from itertools import permutations
from typing import get_args, get_origin, get_type_hints

from minbert.errors import InputError, did_you_mean
from regularizers.adapter import Adapter
from regularizers.base import Method, Sum, replaces_loss
from regularizers.bottleneck import Bottleneck, BottleneckStart
from regularizers.freelb import FreeLB
from regularizers.frozen import Frozen
from regularizers.l2sp import L2sp
from regularizers.lhuc import Lhuc
from regularizers.lnsr import Lnsr
from regularizers.lora import Lora
from regularizers.mine import Mine
from regularizers.mixout import Mixout
from regularizers.noise import Noise
from regularizers.pal import LowRank, Pal
from regularizers.r3f import R3f, R4f
from regularizers.rdrop import RDrop
from regularizers.smart import Smart

OPTIONS = {
    "finetune": Method,
    "frozen": Frozen,
    "smart": Smart,
    "r3f": R3f,
    "r4f": R4f,
    "rdrop": RDrop,
    "freelb": FreeLB,
    "lnsr": Lnsr,
    "noise": Noise,
    "l2sp": L2sp,
    "mixout": Mixout,
    "adapter": Adapter,
    "lora": Lora,
    "lhuc": Lhuc,
    "pal": Pal,
    "low-rank": LowRank,
    "mine": Mine,
    "ib": Bottleneck,
    "ib-sp": BottleneckStart,
}


def build(option: str, settings: Iterable[str] = ()) -> Sum:
    """The methods that e.g. "smart+frozen" and ["smart.eps=1e-3"] name, ready to attach. Raises InputError."""
    names = option.split("+")
    for name in names:
        if name not in OPTIONS:
            hint = did_you_mean(name, OPTIONS) or "."
            raise InputError(f"--option {name!r} is unknown{hint} The options are {', '.join(OPTIONS)}")
    if len(set(names)) < len(names) or (len(names) > 1 and "finetune" in names):
        raise InputError(f"--option {option}: name each method once, and finetune alone")
    chosen = {name: {} for name in names}
    for text in settings:
        name, key, value = split_setting(text)
        if name not in chosen:
            raise InputError(f"--set {text}: {name} is not in --option {option}")
        if key in chosen[name]:
            raise InputError(f"--set {text}: {name}.{key} is set twice")
        chosen[name][key] = convert(name, key, value)
    parts = {name: construct(name, values) for name, values in chosen.items()}
    check_combination(option, parts)
    return Sum(parts)


def check_combination(option: str, parts: dict[str, Method]) -> None:
    """Raise InputError, with the reason, for methods that cannot work together."""
    for (one, a), (other, b) in permutations(parts.items(), 2):
        for what in b.needs:
            if what in a.freezes:
                raise InputError(f"--option {option}: {other} needs {what} to change, and {one} freezes them")
        if a.kind and a.kind == b.kind:
            raise InputError(f"--option {option}: {one} and {other} are both {a.kind}; take one of them")
        if replaces_loss(a) and replaces_loss(b):
            raise InputError(f"--option {option}: {one} and {other} both replace the task loss; take one of them")


def construct(name: str, values: dict) -> Method:
    try:
        return OPTIONS[name](**values)
    except ValueError as error:
        raise InputError(f"--set {name}: {error}") from None


def split_setting(text: str) -> tuple[str, str, str]:
    """smart.eps=1e-3 -> smart, eps, 1e-3"""
    path, equals, value = text.partition("=")
    name, dot, key = path.partition(".")
    if not (equals and dot and name and key and value):
        raise InputError(f"--set {text!r} must look like smart.eps=1e-3")
    return name, key, value


def convert(name: str, key: str, text: str):
    """The text as the type of the constructor's keyword `key`: beta=0.9,0.99 is a tuple, sigma=none is None."""
    types = get_type_hints(OPTIONS[name].__init__)
    kinds = {parameter: types[parameter] for parameter in hyper_parameters(name)}
    if key not in kinds:
        known = f"its hyper-parameters are {', '.join(kinds)}" if kinds else "it has no hyper-parameters"
        raise InputError(f"--set {name}.{key}: {name} does not know {key}; {known}")
    wanted = kinds[key]
    kind = get_args(wanted)[0] if type(None) in get_args(wanted) else wanted  # float | None -> float
    try:
        if kind is not wanted and text.lower() == "none":
            return None
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_origin(kind) is tuple:
            return tuple(part(piece) for part, piece in zip(get_args(kind), text.split(","), strict=True))
        return kind(text)
    except (ValueError, KeyError):
        numbers = len(get_args(kind))
        what = f"{numbers} numbers with commas between them" if numbers else f"a value of type {kind.__name__}"
        raise InputError(f"--set {name}.{key}={text}: not {what}") from None


def hyper_parameters(name: str) -> dict:
    """The keywords of an option's constructor and their defaults."""
    parameters = inspect.signature(OPTIONS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def describe() -> str:
    """Every option with its paper, its idea and its hyper-parameters, from the headers and signatures themselves."""
    lines = []
    for name, option in OPTIONS.items():
        header = inspect.getdoc(option) if option is Method else inspect.getmodule(option).__doc__
        for number, text in enumerate(paragraph(header, start) for start in ("", "Idea: ")):
            lines += textwrap.wrap(
                text, 116, initial_indent=" " * 12 if number else f"{name:12}", subsequent_indent=" " * 12
            )
        lines += [f"{'':12}  {name}.{key}={default}" for key, default in hyper_parameters(name).items()]
    return "\n".join(lines)


def paragraph(header: str, start: str) -> str:
    """The first paragraph that starts with `start`, on one line, without that start."""
    found = next((part for part in header.strip().split("\n\n") if part.startswith(start)), "")
    text = " ".join(found.removeprefix(start).split())
    return text[:1].upper() + text[1:]

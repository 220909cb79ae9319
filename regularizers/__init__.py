"""The table of options: the only place where a method has a name."""

import inspect
from collections.abc import Iterable
from typing import get_args, get_type_hints

from minbert.errors import InputError
from regularizers.base import Method, Sum
from regularizers.frozen import Frozen
from regularizers.smart import Smart

OPTIONS = {"finetune": Method, "frozen": Frozen, "smart": Smart}


def build(option: str, settings: Iterable[str] = ()) -> Sum:
    """ "smart+frozen", ["smart.eps=1e-3"] -> the methods, ready to attach. Raises InputError."""
    names = option.split("+")
    for name in names:
        if name not in OPTIONS:
            raise InputError(f"--option {name!r} is none of {', '.join(OPTIONS)}")
    if len(set(names)) < len(names) or (len(names) > 1 and "finetune" in names):
        raise InputError(f"--option {option}: name each method once, and finetune alone")
    chosen = {name: {} for name in names}
    for text in settings:
        name, key, value = split_setting(text)
        if name not in chosen:
            raise InputError(f"--set {text}: {name} is not in --option {option}")
        chosen[name][key] = convert(name, key, value)
    return Sum({name: construct(name, values) for name, values in chosen.items()})


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
    kinds = {k: v for k, v in get_type_hints(OPTIONS[name].__init__).items() if k != "return"}
    if key not in kinds:
        raise InputError(f"--set {name}.{key}: {name} has {', '.join(kinds) or 'no hyper-parameters'}")
    kind, parts = kinds[key], get_args(kinds[key])
    try:
        if type(None) in parts and text.lower() == "none":
            return None
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if getattr(kind, "__origin__", None) is tuple:
            return tuple(part(piece) for part, piece in zip(parts, text.split(","), strict=True))
        return (parts[0] if parts else kind)(text)
    except (ValueError, KeyError):
        wanted = getattr(kind, "__name__", str(kind)) if not parts else str(kind)
        raise InputError(f"--set {name}.{key}={text}: not a value of type {wanted}") from None


def describe() -> str:
    """Every option with its paper and hyper-parameters, from the code itself."""
    lines = []
    for name, option in OPTIONS.items():
        source = inspect.getmodule(option).__doc__ if option is not Method else Method.__doc__
        lines.append(f"{name:10} {' '.join(source.strip().split(chr(10) * 2)[0].split())}")
        for key, parameter in inspect.signature(option).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                lines.append(f"{'':10}   {name}.{key}={parameter.default}")
    return "\n".join(lines)

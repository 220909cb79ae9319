"""The libraries that only study/ and papers/ need."""

from importlib.util import find_spec

from minbert.errors import InputError


def check_requirements() -> None:
    """Raise InputError if a library of requirements-study.txt is missing."""
    missing = [name for name in ("scipy", "matplotlib") if find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing: pip install -r requirements-study.txt")

"""The libraries that not every command needs: scipy and matplotlib for study/ and papers/, matplotlib for a report."""

from importlib.util import find_spec

from minbert.errors import InputError


def check_libraries(*names: str) -> None:
    """Raise InputError if one of these libraries of requirements-study.txt is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing: pip install -r requirements-study.txt")

"""The argument parser that every program of the project uses."""

import argparse
import difflib

from minbert.errors import InputError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors, so that a program prints them as its other one-line errors.

    Flags cannot be abbreviated. An unknown flag is answered with the closest known one.
    """

    def __init__(self, *args, **keywords):
        keywords = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False} | keywords
        super().__init__(*args, **keywords)

    def error(self, message):
        raise InputError(message)

    def parse_args(self, args=None, namespace=None):
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            close = difflib.get_close_matches(unknown[0], self._option_string_actions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known


def flag(name: str) -> str:
    """The flag of a setting: batch_size -> --batch-size"""
    return "--" + name.replace("_", "-")


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8. Arguments and JSON can hold halves of characters (surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

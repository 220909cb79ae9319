"""What all scripts of figures share: their flags, the files that they write, how they end.

A script has a function `draw(args, files)`, and this `main`:

    def main(argv: list[str]) -> int:
        return run_figure(figure_parser("papers.dynamics.svcca", __doc__), argv, draw)
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from minbert.command_line import Parser, is_utf8, positive
from minbert.errors import InputError, reason
from minbert.report.figure_files import FigureFiles
from minbert.training.runtime import setup
from papers.finished_run import FinishedRun

T = TypeVar("T")


def figure_parser(program: str, description: str, runs: str | None = "+") -> Parser:
    """A parser with the flags that all scripts of figures have. `runs` is how many RUNs there are; None: no RUN."""
    parser = Parser(f"python -m {program}", description=description)
    if runs:
        parser.add_argument("runs", metavar="RUN", nargs=runs, type=Path, help="folder of a finished run")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("figures-out"), help="for the files (default figures-out)"
    )
    return parser


def add_device_flags(parser: Parser) -> None:
    """The flags of scripts that compute with models."""
    parser.add_device_flag()
    parser.add_argument("--batch-size", type=positive, default=32, help="examples in one pass (default 32)")


def choose_device(args: argparse.Namespace) -> torch.device:
    """The device of --device. Products are in full float32 there, because figures measure small differences."""
    return setup(args.device, "fp32", needs_fp32=True).device


def progress(items: Iterable[T], text: str, total: int | None = None) -> Iterable[T]:
    """The items, with a bar on stderr while they are used. No bar where stderr is not a terminal."""
    return tqdm(items, desc=text, total=total, leave=False, disable=None, dynamic_ncols=True)


def run_figure(parser: Parser, argv: list[str], draw: Callable[[argparse.Namespace, FigureFiles], None]) -> int:
    """Parse the command line, draw the figure, and print the files and the time. Returns the exit status."""
    start = time.perf_counter()
    try:
        args = parser.parse_args(argv)
        if not is_utf8(str(args.out)):
            raise InputError("--out is not UTF-8")
        args.runs = [FinishedRun(folder) for folder in getattr(args, "runs", [])]
        files = FigureFiles(args.out)
        files.folder.mkdir(parents=True, exist_ok=True)  # before the computation, which can take long
        draw(args, files)
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{parser.prog}: --out {args.out} cannot be written: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    print(f"{'  '.join(map(str, files.written))}  {time.perf_counter() - start:.1f} s")
    return 0

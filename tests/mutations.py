"""Do the tests notice a mistake? Changes one place of the code at a time and runs the tests on a copy.

    python tests/mutations.py --sample 200 --seed 1                   # of the whole project; takes hours
    python tests/mutations.py --sample 200 --seed 1 --from 50 --to 100  # a part of the same sample
    python tests/mutations.py --files regularizers/smart.py --tests tests/regularizers/test_smart.py --sample 20

A mutant is killed if the tests fail, or take far longer than without it. The tests nearest to the changed file run
first, the rest of the suite only if they pass, and the slow tests last. Survivors are printed with file and line:
either a test is missing, or the change has no effect. The sample follows from the seed, as long as the code stays.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CODE = ("train.py", "multitask.py", "minbert/**/*.py", "regularizers/*.py", "study/*.py")
# Compiled layers, and whole runs that are killed, resumed or trained together.
SLOW = (
    "tests/programs/test_examples.py",
    "tests/device",
    "tests/training/test_keep.py",
    "tests/training/test_resume.py",
    "tests/training/test_runtime.py::test_two_processes_train_as_one",
)
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.BitAnd: ast.BitOr, ast.USub: ast.UAdd,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of one file: the bytes from `start` to `end` become `text`."""

    file: Path
    line: int
    kind: str
    start: int
    end: int
    text: str


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """(kind, node that is replaced, node in its place) of all changes at this node."""
    if type(getattr(node, "op", None)) in SWAPS:
        other = copy.deepcopy(node)
        other.op = SWAPS[type(node.op)]()
        yield "operator", node, other
    for place, operator in enumerate(getattr(node, "ops", [])):
        if type(operator) in SWAPS:
            other = copy.deepcopy(node)
            other.ops[place] = SWAPS[type(operator)]()
            yield "operator", node, other
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):  # axes and class-level flags too
        yield "constant", node, ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)
    if has_an_effect(node):
        yield "statement", node, ast.Pass()
    if isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
        yield "return", node, ast.Return(ast.Constant(None))


def has_an_effect(node: ast.AST) -> bool:
    """Whether a statement does something, besides naming a value: calls, raises, changes an object."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)  # a docstring
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)


def mutants_of(file: Path) -> Iterator[Mutant]:
    """All mutants of a file. Only the changed place is written anew, so all comments stay: tests read some of them."""
    source = (ROOT / file).read_bytes()
    lines = [0]  # where each line begins
    for line in source.split(b"\n"):
        lines.append(lines[-1] + len(line) + 1)
    tree = ast.parse(source)
    formatted = {id(node) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for node in ast.walk(text)}
    for node in ast.walk(tree):
        if id(node) in formatted:  # Python 3.11 does not know the places inside an f-string
            continue
        for kind, old, new in changes(node):
            start, end = lines[old.lineno - 1] + old.col_offset, lines[old.end_lineno - 1] + old.end_col_offset
            text = ast.unparse(ast.fix_missing_locations(new))
            if isinstance(new, ast.expr) and not isinstance(new, ast.Constant):
                text = f"({text})"
            yield Mutant(file, old.lineno, kind, start, end, text)


def describe(mutant: Mutant) -> str:
    old = (ROOT / mutant.file).read_bytes()[mutant.start : mutant.end].decode()
    return f"{mutant.file}:{mutant.line} {mutant.kind}: {' '.join(old.split())[:60]} -> {mutant.text[:60]}"


def stages(file: Path) -> list[tuple[str, ...]]:
    """Arguments of pytest, from the tests nearest to a file to those of the whole project."""
    room = "tests/programs"
    if file.parent != Path("."):
        room = {"minbert": "tests/model"}.get(str(file.parent), f"tests/{file.parent.name}")
    nearest = Path(room, f"test_{file.stem}.py")
    fast = [f"--deselect={name}" for name in SLOW]
    first = [(str(nearest), *fast)] if (ROOT / nearest).exists() else []
    return [*first, (room, *fast), ("tests", f"--ignore={room}", *fast), SLOW]


def run_tests(folder: Path, tests: tuple[str, ...], seconds: float | None) -> str:
    """ "" if the tests pass in the copy, or if there are none. Otherwise what went wrong."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, **silent
    )
    try:
        return "" if process.wait(seconds) in (0, 5) else "killed"
    except subprocess.TimeoutExpired:
        return "killed, too slow"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests have started
            process.wait()


class Laboratory:
    """A copy of the repository, and how long the tests may take in it."""

    def __init__(self, folder: Path):
        self.folder, self.limits = folder, {}
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "runs", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=ignored)

    def check(self, tests: tuple[str, ...]) -> None:
        """The tests must pass without a mutation. The first time they run, the time is measured."""
        if tests in self.limits:
            return
        began = time.monotonic()
        if run_tests(self.folder, tests, None):
            sys.exit(f"the tests fail without a mutation: {' '.join(tests)}")
        self.limits[tests] = 60 + 4 * (time.monotonic() - began)

    def try_mutant(self, mutant: Mutant, tests: tuple[str, ...]) -> str:
        """What the tests say of a mutant: see run_tests."""
        path = self.folder / mutant.file
        source = path.read_bytes()
        path.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
        try:
            return run_tests(self.folder, tests, self.limits[tests])
        finally:
            path.write_bytes(source)

    def judge(self, mutant: Mutant, stages: list[tuple[str, ...]]) -> str:
        """Run one stage of tests after the other until a test fails. Says which, and in how many seconds."""
        seconds = 0.0
        for tests in stages:
            self.check(tests)
            began = time.monotonic()
            result = self.try_mutant(mutant, tests)
            seconds += time.monotonic() - began
            if result:
                return f"{result} by {tests[0]}, {seconds:.0f} s"
        return f"SURVIVED, {seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", type=Path, help="files to change (default: the whole project)")
    parser.add_argument("--tests", nargs="+", help="tests to run, as for pytest (default: the nearest, then the rest)")
    parser.add_argument("--near", action="store_true", help="run only the tests of a file's own room")
    parser.add_argument("--sample", type=int, default=20, help="number of mutants (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", type=int, default=0, dest="first", help="leave out the first mutants of the sample")
    parser.add_argument("--to", type=int, dest="last", help="stop after this many of the sample")
    args = parser.parse_args()
    files = args.files or sorted(path.relative_to(ROOT) for pattern in CODE for path in ROOT.glob(pattern))
    candidates = [mutant for file in files for mutant in mutants_of(file)]
    random.Random(args.seed).shuffle(candidates)
    chosen = candidates[: args.sample][args.first : args.last]
    killed = 0
    with tempfile.TemporaryDirectory() as temporary:
        laboratory = Laboratory(Path(temporary) / "copy")
        for number, mutant in enumerate(chosen, start=args.first + 1):
            tests = [tuple(args.tests)] if args.tests else stages(mutant.file)
            if args.near:
                tests = [some for some in tests if some[0] != "tests" and some != SLOW]
            result = laboratory.judge(mutant, tests)
            killed += result.startswith("killed")
            print(f"{number} {describe(mutant)}: {result}", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed, {killed / max(1, len(chosen)):.1%}")


if __name__ == "__main__":
    main()

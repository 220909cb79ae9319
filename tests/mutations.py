"""Do the tests notice a mistake? Changes one place of the code at a time and runs the tests on a copy.

    python tests/mutations.py --files regularizers/smart.py --tests tests/regularizers/test_smart.py --sample 20
    python tests/mutations.py --files minbert/losses.py minbert/optimizer.py --tests tests/model --sample 50 --seed 1

A mutant is killed if the tests fail or run into the time limit. Survivors are printed with file and line: either a
test is missing, or the change has no effect. The sample follows from the seed.
"""

import argparse
import ast
import copy
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.USub: ast.UAdd,
}  # fmt: skip


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every node that can be changed, with the kind of change. Docstrings and annotations are left alone."""
    for node in ast.walk(tree):
        operators = getattr(node, "ops", None) or [getattr(node, "op", None)]
        if type(operators[0]) in SWAPS:
            yield node, "operator"
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and hasattr(node, "lineno"):
            yield node, "constant"
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            yield node, "condition"
        if isinstance(node, ast.Expr | ast.AugAssign) and not isinstance(getattr(node, "value", None), ast.Constant):
            yield node, "statement"
        if isinstance(node, ast.Return) and node.value is not None:
            yield node, "return"


def mutate(node: ast.AST, kind: str) -> None:
    """Change the node in place."""
    if kind == "operator":
        if hasattr(node, "ops"):
            node.ops[0] = SWAPS[type(node.ops[0])]()
        else:
            node.op = SWAPS[type(node.op)]()
    elif kind == "constant":
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif kind == "condition":
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif kind == "return":
        node.value = ast.Constant(None)
    else:  # the statement goes: a node cannot delete itself, so it becomes an expression without effect
        node.__class__, node.value = ast.Expr, ast.Constant(None)


def mutants(files: list[Path]) -> list[tuple[Path, int, str, int]]:
    """(file, number of the place, kind, line) of every possible mutant."""
    found = []
    for file in files:
        for number, (node, kind) in enumerate(places(ast.parse((ROOT / file).read_text(encoding="utf-8")))):
            found.append((file, number, kind, node.lineno))
    return found


def apply(folder: Path, file: Path, number: int) -> None:
    """Write the mutated file into the copy of the repository."""
    tree = copy.deepcopy(ast.parse((ROOT / file).read_text(encoding="utf-8")))
    node, kind = list(places(tree))[number]
    mutate(node, kind)
    (folder / file).write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")


def is_killed(folder: Path, tests: list[str], seconds: float) -> bool:
    """Whether the tests fail in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, timeout=seconds).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", type=Path, required=True, help="files to change")
    parser.add_argument("--tests", nargs="+", required=True, help="tests to run, as for pytest")
    parser.add_argument("--sample", type=int, default=20, help="number of mutants (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one run of the tests (default 300)")
    args = parser.parse_args()
    candidates = mutants(args.files)
    chosen = random.Random(args.seed).sample(candidates, min(args.sample, len(candidates)))
    killed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "runs", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=ignored)
        if is_killed(folder, args.tests, args.timeout):
            sys.exit("the tests fail without a mutation")
        for file, number, kind, line in chosen:
            apply(folder, file, number)
            died = is_killed(folder, args.tests, args.timeout)
            shutil.copy(ROOT / file, folder / file)
            killed += died
            print(f"{'killed  ' if died else 'SURVIVED'} {file}:{line} {kind}", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed")


if __name__ == "__main__":
    main()

"""Imports run one way, importing minbert is light, and nothing reads or writes a pickle."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_minbert_imports_no_regularizer_and_a_method_no_other_method():
    for path in (ROOT / "minbert").rglob("*.py"):
        assert not any(name.split(".")[0] in ("regularizers", "train", "multitask") for name in imported(path)), path
    shared = {"regularizers", "regularizers.base", "regularizers.perturbation", "regularizers.mutual_information"}
    for path in (ROOT / "regularizers").glob("*.py"):
        own = {name for name in imported(path) if name.startswith("regularizers")}
        own = {name for name in own if (ROOT / (name.replace(".", "/") + ".py")).exists()}
        homes = own & {"regularizers.perturbation", "regularizers.mutual_information"}
        assert path.stem == "__init__" or (own <= shared and len(homes) <= 1), path


def test_importing_minbert_is_light():
    heavy = ("regularizers", "matplotlib", "scipy", "transformers", "huggingface_hub")
    code = f"import sys, minbert; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_pickle_anywhere():
    ways = ("torch.load", "torch.save", "pickle import", "import pickle", "all_gather_object")
    for path in [*ROOT.glob("*.py"), *ROOT.glob("minbert/**/*.py"), *ROOT.glob("regularizers/*.py")]:
        assert not any(way in path.read_text(encoding="utf-8") for way in ways), path

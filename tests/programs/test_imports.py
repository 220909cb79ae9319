"""Imports run one way, importing minbert is light, and nothing reads or writes a pickle."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("data", "training", "submission", "sanity", "download", "report")  # folders of minbert/
COMMANDS = ("predict", "export", "pretrain")  # files at the top of minbert/ that may import the rooms
# The files that draw. The other files of minbert/, train.py and multitask.py work without matplotlib.
DRAWING = {f"minbert.report.{name}" for name in ("picture_style", "figure_files", "pictures", "run_section", "page")}
SHARED = ("regularizers.perturbation", "regularizers.mutual_information")  # a method may import one of them
PARTS = ("regularizers.estimators", "regularizers.first_stage")  # of mutual_information
PROGRAMS = ("train", "multitask", "sample", "benchmarks", "examples", "study", "papers", "course", "tests")


def module_name(path: Path) -> str:
    """minbert/data/tasks.py -> minbert.data.tasks; minbert/data/__init__.py -> minbert.data"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(path for room in ("minbert", "regularizers", "study") for path in (ROOT / room).rglob("*.py"))
MODULES = {module_name(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """Everything that a file imports, in functions too: modules of this project by their full names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & MODULES.keys()
            # "from minbert import weights" imports the module weights; "from minbert import AdamW" the package itself.
            names |= modules if modules else {node.module}
    return names


IMPORTS = {module: imported(path) for module, path in MODULES.items()}


def room_of(module: str) -> str:
    """minbert.data.tasks -> data; "" for a file at the top of minbert/ and for everything that is not minbert's."""
    parts = module.split(".")
    return parts[1] if parts[0] == "minbert" and len(parts) > 1 and parts[1] in ROOMS else ""


def test_every_folder_of_minbert_is_one_of_the_rooms():
    folders = {path.parent.relative_to(ROOT / "minbert").as_posix() for path in (ROOT / "minbert").rglob("*.py")}
    assert folders - {"."} == set(ROOMS)


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] == "minbert"])
def test_minbert_imports_no_method_and_no_program(module):
    assert not {name for name in IMPORTS[module] if name.split(".")[0] in ("regularizers", *PROGRAMS)}


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name)])
def test_a_room_imports_only_itself_and_data_and_the_files_at_the_top(module):
    """The report also imports training/, whose run folders it reads."""
    allowed = {"", "data", room_of(module)} | ({"training"} if room_of(module) == "report" else set())
    assert {room_of(name) for name in IMPORTS[module]} <= allowed


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] == "minbert" and not room_of(name)])
def test_a_file_at_the_top_of_minbert_imports_no_room(module):
    """The encoder least of all. The commands may, and minbert.load_run does when it is called."""
    if module != "minbert" and module.rpartition(".")[2] not in COMMANDS:
        assert not {name for name in IMPORTS[module] if room_of(name)}


def test_nothing_imports_the_commands():
    for module, names in IMPORTS.items():
        assert not names & {f"minbert.{command}" for command in COMMANDS}, module


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("regularizers.")])
def test_a_method_imports_no_other_method_and_no_room(module):
    own = {name for name in IMPORTS[module] if name.split(".")[0] == "regularizers"}
    if module in (*PARTS, "regularizers.mutual_information"):
        assert own <= {"regularizers.base", *PARTS}
    else:
        assert own <= {"regularizers.base", *SHARED} and len(own & set(SHARED)) <= 1
    assert not {name for name in IMPORTS[module] if room_of(name) or name.split(".")[0] in PROGRAMS}


def test_there_is_no_import_cycle():
    graph = {module: names & MODULES.keys() for module, names in IMPORTS.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_importing_minbert_is_light():
    heavy = ("regularizers", "matplotlib", "scipy", "transformers", "huggingface_hub")
    rooms = tuple(f"minbert.{room}" for room in ROOMS)
    code = f"import sys, minbert; print([m for m in {heavy + rooms} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_only_studies_and_reports_import_matplotlib_and_only_studies_scipy():
    for module, path in MODULES.items():
        libraries = {name.split(".")[0] for name in imported(path)} & {"scipy", "matplotlib"}
        assert module.startswith("study.") or not libraries - ({"matplotlib"} if module in DRAWING else set()), module


def test_only_files_that_draw_import_files_that_draw():
    """Else a file would need matplotlib without naming it. The command imports the page when it writes one."""
    for module, names in IMPORTS.items():
        if module.startswith("minbert.") and names & DRAWING:
            assert module in DRAWING or module == "minbert.report.__main__", module


def test_training_and_predicting_need_no_matplotlib():
    """The report too starts without it, to say what is missing, and to write event files."""
    modules = "train, multitask, minbert.predict, minbert.report.__main__, minbert.report.events"
    code = f"import sys, {modules}; print([m for m in ('scipy', 'matplotlib', 'tensorboard') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_study_needs_neither_before_its_report():
    code = "import sys, study.__main__, study.worker; print([m for m in ('scipy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("names", ["BertModel, BertConfig, SentenceModel, AdamW, load_tokenizer, load_run"])
def test_the_public_names_are_imported_from_minbert(names):
    namespace: dict = {}
    exec(f"from minbert import {names}", namespace)
    assert all(callable(namespace[name]) for name in names.split(", "))


def test_nothing_reads_or_writes_a_pickle():
    """torch.load and torch.save do; so does dist.all_gather_object."""
    calls = {"torch.load", "torch.save", "dist.all_gather_object", "dist.broadcast_object_list"}
    for path in [*ROOT.glob("*.py"), *MODULES.values(), *ROOT.glob("sample/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        modules = {name.split(".")[0] for name in imported(path)}
        assert not attributes & calls and not modules & {"pickle", "shelve", "marshal"}, path

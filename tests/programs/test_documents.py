"""The commands, links, snippets and places in the code that the documents name."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import multitask
import train
from minbert import predict
from minbert.training.arguments import parse_settings
from minbert.training.settings import MultitaskSettings, Settings
from regularizers import build

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", ROOT / "sample" / "README.md"]
PROGRAMS = {"train.py": (train.main, Settings), "multitask.py": (multitask.main, MultitaskSettings)}


def code_blocks(path: Path, marker: str = "") -> list[str]:
    """The blocks between lines of three backticks, or only those below a comment `<!-- marker -->`."""
    parts = path.read_text(encoding="utf-8").split("\n```")  # text and code in turn
    return [code for text, code in zip(parts[0::2], parts[1::2]) if not marker or text.endswith(f"<!-- {marker} -->")]


COMMANDS = [line for path in DOCUMENTS for block in code_blocks(path) for line in block.splitlines()]
REPORT = [line for path in DOCUMENTS for block in code_blocks(path, "report") for line in block.strip().splitlines()]
SNIPPETS = [code for path in DOCUMENTS for code in code_blocks(path) if code.startswith("python\n")]


def test_the_documents_have_commands_and_snippets():
    assert len([c for c in COMMANDS if "train.py" in c]) >= 8 and len(REPORT) == 11 and len(SNIPPETS) > 2


def test_the_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A working folder with the task file of docs/your-own-data.md, and files as the page describes them."""
    (block,) = [code for code in code_blocks(ROOT / "docs" / "your-own-data.md") if code.startswith("toml\n")]
    (tmp_path / "reviews.toml").write_text(block.removeprefix("toml\n"), encoding="utf-8")
    labels = ("bad", "fine", "good")
    rows = [f'r{i},"{" ".join(["very"] * (i % 4))} {labels[i % 3]}, he said",{labels[i % 3]}' for i in range(24)]
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text("\n".join(["id,review,stars", *rows, ""]), encoding="utf-8")
    (tmp_path / "test.csv").write_text("id,review\nr99,not bad\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_the_example_of_your_own_data_runs(own_data, model_folder, capsys):
    """Its two commands, with the tiny model, few steps and no punctuation that the model does not know."""
    page = next(b for b in code_blocks(ROOT / "docs" / "your-own-data.md") if "minbert.predict" in b)
    train_command, predict_command = (shlex.split(line) for line in page.strip().splitlines())
    argv = [str(model_folder) if word == "bert-base-uncased" else word for word in train_command[2:]]
    assert train.main([*argv, "--max-steps", "2", "--max-length", "32", "--device", "cpu"]) == 0
    assert Path("runs/reviews/predictions/reviews-test.csv").read_text().startswith("id,prediction,bad,fine,good\nr99,")
    capsys.readouterr()
    assert predict.main(predict_command[3:]) == 0
    assert capsys.readouterr().out.split()[0] in ("bad", "fine", "good")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_of_a_program_parses(program, own_data):
    # A shell loop over seeds has its variable in place of a number, and ends the command with `;` or `|`.
    commands = [re.search(rf"(?:python3?|torchrun.*) {program}([^#&;|]*)", command) for command in COMMANDS]
    argvs = [shlex.split(match[1].replace("$seed", "0")) for match in commands if match and "..." not in match[1]]
    assert argvs
    for argv in argvs:
        if not {"--options", "--help", "--resume"} & set(argv):
            settings = parse_settings(PROGRAMS[program][1], argv, "")
            build(settings.option, settings.method_settings)


@pytest.mark.parametrize("command", REPORT)
def test_the_commands_of_the_course_report_run(command, model_folder, course, tmp_path):
    """With the tiny model, cut short as the page says. CFIMDB's files are made of SST's."""
    _, program, *flags = shlex.split(command, comments=True)
    for split in ("train", "dev"):
        rows = (course / f"ids-sst-{split}.csv").read_text().replace("\t2\n", "\t1\n").replace("\t3\n", "\t1\n")
        (tmp_path / f"ids-cfimdb-{split}.csv").write_text(rows.replace("\t4\n", "\t0\n"))
    for path in course.iterdir():
        (tmp_path / path.name).symlink_to(path)
    more = ["--model", str(model_folder), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    more += ["--train-size", "20", "--epochs", "1"]
    assert PROGRAMS[program][0]([*flags, *more, "--max-length", "32", "--device", "cpu"]) == 0


def test_the_first_snippets_of_saved_models_run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").symlink_to(ROOT / "sample")
    assert train.main("--max-steps 1 --train-size 8 --device cpu --out runs/x".split()) == 0
    snippets = [code for code in code_blocks(ROOT / "docs" / "saved-models.md") if code.startswith("python\n")]
    capsys.readouterr()
    exec(compile(snippets[0].removeprefix("python\n"), "snippet", "exec"), {})
    assert "[Answer(prediction=" in capsys.readouterr().out
    first = snippets[1]
    exec(compile(first.removeprefix("python\n"), "snippet", "exec"), {})
    assert "torch.Size([1, 15, 128])" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_every_name_that_a_snippet_imports_exists(number):
    tree = ast.parse(SNIPPETS[number].removeprefix("python\n"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), "snippet", "exec"), {})


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        text = target.read_text(encoding="utf-8") if anchor else ""
        if target.suffix == ".py" and anchor:  # a line, as in docs/equations.md
            assert 1 <= int(anchor.removeprefix("L")) <= len(text.splitlines()), link
        else:
            assert not anchor or anchor in anchors(text), link


def definitions(path: Path) -> set[str]:
    """The names a module defines, and Class.method for the methods of its classes."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_place_named_as_file_and_function_exists(path):
    places = re.findall(r"`([\w/]+\.py):([\w.]+)`", path.read_text(encoding="utf-8"))
    assert places or path.name != "how-a-run-works.md"
    for file, name in places:
        assert name in definitions(ROOT / file), f"{file}:{name}"

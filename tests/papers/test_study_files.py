"""The study files of papers/: they resolve, hold the papers' recipes, and the READMEs name all tables and figures."""

import math
import re
import shlex
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import sample
from minbert.data.tasks import ROWS, TASKS
from minbert.metrics import CORRELATIONS
from study.__main__ import make_parser, read_overrides
from study.plan import Run, Study, load_study
from study.study_file import Overrides

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ROOT / "papers"
FILES = sorted(str(path.relative_to(PAPERS)) for path in PAPERS.rglob("*.toml"))
READMES = [PAPERS / "README.md", *sorted(PAPERS.glob("*/README.md"))]

# The rows of each README, listed by hand from the papers: "Figure 2" may have several rows ("Figure 2, left").
TABLES_AND_FIGURES = {
    "mine": ("Table 1", "Figure 1", "Figure 2"),
    "lnsr": tuple(f"Table {i}" for i in range(1, 6)) + tuple(f"Figure {i}" for i in range(1, 6)),
    "stability": tuple(f"Table {i}" for i in range(1, 4)) + tuple(f"Figure {i}" for i in range(1, 15)),
    "multitask": ("Table 1", "Figure 1", "Figure 2"),
    "dynamics": ("Table 1", *(f"Figure {i}" for i in range(1, 8))),
}

# file: model, seeds, epochs, learning rate, batch size, bias correction: of the first run
RECIPES = {
    "mine/table1.toml": ("bert-large-uncased", 20, 3, 2e-5, 32, False),
    "mine/table1-roberta.toml": ("roberta-large", 20, 3, 2e-5, 32, False),
    "mine/figure2-bottleneck.toml": ("bert-large-uncased", 20, 3, 2e-5, 32, False),
    "mine/figure2-information.toml": ("bert-large-uncased", 3, None, 2e-5, 32, False),  # 39 to 234 steps
    "lnsr/table1.toml": ("bert-large-uncased-whole-word-masking", 25, 3, 2e-5, 32, False),
    "lnsr/table2-ablation.toml": ("bert-large-uncased-whole-word-masking", 25, 3, 2e-5, 32, False),
    "lnsr/figure-fewer-samples.toml": ("bert-large-uncased-whole-word-masking", 20, 3, 2e-5, 32, False),
    "lnsr/figure-position.toml": ("bert-large-uncased-whole-word-masking", 25, 3, 2e-5, 32, False),
    "stability/table1.toml": ("bert-large-uncased", 25, 3, 2e-5, 16, False),
    "stability/figure-ablation.toml": ("bert-large-uncased", 25, 3, 1e-5, 16, False),
    "stability/figure-1000-samples.toml": ("bert-large-uncased", 25, 3, 2e-5, 16, False),
    "stability/figure-runs.toml": ("bert-large-uncased", 10, 3, 2e-5, 16, False),
    "multitask/table1.toml": ("bert-base-uncased", 5, 10, 1e-3, 8, True),
    "multitask/table1-plain.toml": ("bert-base-uncased", 5, 10, 1e-3, 8, True),
    "dynamics/figures.toml": ("bert-large-uncased", 2, 3, 3e-5, 64, True),
}

MOMENTS = "mine/figure2-information.toml"  # its runs are moments of one training, with a constant learning rate


@cache
def load(name: str) -> Study:
    """A study file with the sample's model, which is of the BERT family: no weights need to be downloaded."""
    return load_study(PAPERS / name, Overrides(settings=(f"model={sample.MODEL}",)))


def read(name: str) -> dict:
    return tomllib.loads((PAPERS / name).read_text(encoding="utf-8"))


def of_method(study: Study, method: str, task: str) -> Run:
    """The first run of a method on a task."""
    return next(run for run in study.runs if (run.method, run.task) == (method, task))


def steps(run: Run) -> int:
    """The optimizer steps of a run on the published data."""
    settings = run.settings
    if settings.max_steps:
        return settings.max_steps
    sizes = [min(settings.train_size or math.inf, ROWS[name].get("train", math.inf)) for name in settings.names]
    return settings.epochs * sum(math.ceil(size / settings.batch_size) for size in sizes)


def commands(program: str) -> list[str]:
    """The commands of the READMEs that start with `program`, from code blocks and from cells of tables."""
    texts = [path.read_text(encoding="utf-8") for path in READMES]
    return [
        line for text in texts for line in re.findall(rf"^{program} [^\n`]+|(?<=`){program} [^`]+(?=`)", text, re.M)
    ]


def test_the_list_of_recipes_has_every_study_file():
    assert sorted(RECIPES) == FILES


def test_every_study_has_a_folder_of_its_own():
    names = [read(name)["name"] for name in FILES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", FILES)
def test_the_settings_of_all_runs_resolve(name):
    study = load(name)
    assert len(study.file.methods) * len(study.file.tasks) <= len(study.runs)


@pytest.mark.parametrize("name", FILES)
def test_the_file_has_the_recipe_of_its_paper(name):
    model, seeds, *recipe = RECIPES[name]
    study = load(name)
    first = study.runs[0].settings
    assert read(name)["settings"]["model"] == model
    assert len({run.settings.seed for run in study.runs}) == seeds
    assert [first.epochs, first.lr, first.batch_size, first.bias_correction] == recipe
    schedules = {"multitask": "constant", "dynamics": "slanted", "mine": "constant" if name == MOMENTS else "linear"}
    assert first.schedule == schedules.get(name.split("/")[0], "linear")
    assert all(run.settings.precision == "fp32" for run in study.runs)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("multitask")])
def test_the_rest_of_the_recipe_is_that_of_bert(name):
    for run in load(name).runs:
        settings = run.settings
        warmup = 0.0 if name == MOMENTS else 0.1
        assert (settings.warmup, settings.weight_decay, settings.clip, settings.max_length) == (warmup, 0.01, 1.0, 128)
        assert (settings.adam_betas, settings.adam_eps, settings.dropout) == ((0.9, 0.999), 1e-6, None)


@pytest.mark.parametrize("name", FILES)
def test_only_the_stability_paper_leaves_the_recipe_to_the_family_of_the_model(name):
    """So --model roberta-large has the recipe of its Table 3 there, and BERT's recipe in table1-roberta.toml."""
    own = {"weight-decay", "clip"} <= set(read(name)["settings"])
    assert own != name.startswith("stability")


@pytest.mark.parametrize("name", FILES)
def test_the_scores_are_those_of_the_paper(name):
    study = load(name)
    expected = {"mine": {"mrpc": "accuracy"}, "stability": {"mrpc": "f1"}}.get(name.split("/")[0], {})
    assert study.file.metrics == {task: metric for task, metric in expected.items() if task in study.file.tasks}


@pytest.mark.parametrize("name", FILES)
def test_the_numbers_of_the_paper_are_points_of_a_method_and_a_task_of_the_file(name):
    study = load(name)
    tasks = {part for entry in study.file.tasks for part in (entry, *entry.split("+"))}
    for method, cells in study.file.paper.items():
        assert set(cells) <= tasks
        for task, numbers in cells.items():
            low = -100 if set(TASKS[task].score) <= CORRELATIONS else 0
            assert all(low <= number <= 100 for number in numbers.values()), (method, task)
            assert numbers.get("std", 0) >= 0
            assert numbers["mean"] <= numbers.get("max", 100)


@pytest.mark.parametrize("name", [name for name in FILES if "table" in name])
def test_a_table_has_numbers_for_each_method_and_task(name):
    study = load(name)
    tasks = {part for entry in study.file.tasks for part in entry.split("+")}
    assert {method: set(cells) for method, cells in study.file.paper.items()} == dict.fromkeys(
        study.file.methods, tasks
    )


def test_the_l2sp_of_the_mine_paper_covers_all_pretrained_parameters_and_no_head():
    for name in ("mine/table1.toml", "mine/table1-roberta.toml"):
        settings = of_method(load(name), "l2sp", "rte").settings.method_settings
        assert {"l2sp.beta=0", "l2sp.include=all"} <= set(settings)


def test_the_stability_paper_trains_20_epochs_with_bias_correction():
    study = load("stability/table1.toml")
    recipes = {m: of_method(study, m, "rte").settings for m in ("devlin", "mixout", "ours")}
    assert {m: (s.epochs, s.bias_correction) for m, s in recipes.items()} == {
        "devlin": (3, False), "mixout": (3, False), "ours": (20, True),
    }  # fmt: skip


def test_the_ablation_has_every_combination():
    study = load("stability/figure-ablation.toml")
    combinations = {(run.settings.bias_correction, run.settings.epochs, run.settings.lr) for run in study.runs}
    assert len(combinations) == 24 and {epochs for _, epochs, _ in combinations} == {3, 10, 20}


def test_the_runs_of_one_seed_are_moments_of_one_training():
    """They differ in the number of steps only, and no learning rate depends on that number."""
    runs = [run for run in load(MOMENTS).runs if (run.method, run.settings.seed) == ("mine", 1)]
    assert [run.settings.max_steps for run in runs] == [39, 78, 156, 234]
    assert len({replace(run.settings, max_steps=1) for run in runs}) == 1
    assert {(run.settings.schedule, run.settings.save) for run in runs} == {("constant", "model")}


@pytest.mark.parametrize("task", ["mrpc", "cola", "qnli"])
def test_a_thousand_examples_get_as_many_steps_as_the_whole_training_set(task):
    study = load("stability/figure-1000-samples.toml")
    full, short, same = (of_method(study, m, task) for m in ("full", "thousand", "thousand-same-steps"))
    assert steps(same) == steps(full) > steps(short) == 189
    assert full.settings.train_size is None
    assert short.settings.train_size == same.settings.train_size == 1000


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_the_smaller_training_sets_have_the_shares_of_the_figure(task):
    study = load("lnsr/figure-fewer-samples.toml")
    sizes = sorted({run.settings.train_size for run in study.runs if run.task == task})
    assert sizes == [math.floor(share * ROWS[task]["train"] + 0.5) for share in (0.15, 0.3, 0.5)]


def test_the_dynamics_paper_has_a_recipe_for_each_task_and_keeps_the_models():
    study = load("dynamics/figures.toml")
    recipes = {run.task: (run.settings.lr, run.settings.batch_size, run.settings.epochs) for run in study.runs}
    assert recipes == {"mnli": (3e-5, 64, 3), "rte": (1e-5, 32, 5), "sst2": (3e-5, 64, 4), "mrpc": (1e-5, 16, 5)}
    assert {run.settings.save for run in study.runs} == {"model"}


def test_the_runs_of_table_1_of_lnsr_give_the_generalisation_gap():
    study = load("lnsr/table1.toml")
    scored = {run.method for run in study.runs if "train" in run.settings.evaluate}
    assert scored == {"plain", "lnsr"}


@pytest.mark.parametrize("folder", TABLES_AND_FIGURES)
def test_the_readme_has_a_row_for_each_table_and_figure_and_no_other(folder):
    text = (PAPERS / folder / "README.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ((?:Table|Figure) \d+)[ ,]", text, re.M))
    assert rows == set(TABLES_AND_FIGURES[folder])


def test_each_paper_has_a_folder_and_a_readme():
    assert sorted(path.parent.name for path in READMES[1:]) == sorted(TABLES_AND_FIGURES)


@pytest.mark.parametrize("name", FILES)
def test_the_readmes_name_the_file_with_its_runs_and_steps(name):
    folder = (PAPERS / name).parent
    assert f"python -m study papers/{name} " in (folder / "README.md").read_text(encoding="utf-8")
    runs = load(name).runs
    line = f"| `{name}` | {len(runs)} | {sum(map(steps, runs))} |"
    assert line in (PAPERS / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("command", commands("python -m study"))
def test_the_commands_of_the_readmes_plan_a_study(command):
    args = make_parser().parse_args(shlex.split(command)[3:])
    if args.model != "sample/tiny-bert":
        args.model = str(sample.MODEL)  # any other model would be downloaded
    assert load_study(ROOT / args.file, read_overrides(args)).runs


def test_there_are_commands_to_check():
    assert len(commands("python -m study")) >= 20


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_the_links_of_the_readmes_lead_to_files(path):
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert links
    assert all((path.parent / link).exists() for link in links), links

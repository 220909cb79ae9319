"""A study file is read whole or refused with one line that names the key."""

import pytest

from minbert.errors import InputError
from minbert.files import read_toml
from study.plan import load_study
from study.study_file import Overrides, check_study_file

GOOD = """
tasks = ["rte", "sst5+sts"]
compare_with = "plain"
[score]
sts = "spearman"
[settings]
lr = [1e-5, 2e-5]
[settings.rte]
epochs = 2
[methods.plain]
option = "finetune"
[methods.smart]
option = "smart"
set = ["smart.eps=1e-3"]
[paper.smart.rte]
mean = 72.23
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text: str, **overrides):
        path = tmp_path / "some-study.toml"
        path.write_text(text, encoding="utf-8")
        return check_study_file(read_toml(path), path, Overrides(**overrides))

    return read_text


def test_a_good_file_is_read(read):
    file = read(GOOD)
    assert (file.name, file.about, file.seeds) == ("some-study", "", 10)
    assert file.tasks == ["rte", "sst5+sts"] and list(file.methods) == ["plain", "smart"]
    assert file.baselines == {"smart": "plain"} and file.metrics == {"sts": "spearman"}
    assert file.paper["smart"]["rte"] == {"mean": 72.23}


def test_the_papers_numbers_are_those_of_the_files_own_runs(read):
    text = GOOD + "[paper.smart.sts]\nmean = 60.5\n"
    assert read(text).paper["smart"] == {"rte": {"mean": 72.23}, "sts": {"mean": 60.5}}
    # sts alone is another run than sst5 and sts together, for which the paper has the number.
    assert read(text, tasks=("rte", "sts")).paper["smart"] == {"rte": {"mean": 72.23}}


def test_another_task_must_not_lack_what_a_method_sets_for_each_task(read):
    text = "tasks = ['rte', 'cola']\n[methods.same-steps]\noption = 'finetune'\n"
    text += "[methods.same-steps.rte]\nmax-steps = 9\n"
    assert read(text, tasks=("mrpc",)).tasks == ["mrpc"]  # cola does without, and so can mrpc
    text += "[methods.same-steps.cola]\nmax-steps = 8\n"
    assert read(text, tasks=("cola",)).tasks == ["cola"]
    with pytest.raises(InputError, match=r"--tasks mrpc: methods\.same-steps sets max-steps for rte, cola only"):
        read(text, tasks=("cola", "mrpc"))


def test_a_table_compares_each_method_with_its_own_baseline(read):
    text = GOOD.replace('compare_with = "plain"', 'compare_with = {plain = "smart"}')
    assert read(text).baselines == {"plain": "smart"}


def test_the_command_line_changes_the_file(read):
    file = read(
        GOOD, tasks=("cola",), methods=("smart",), seeds=(3, 9), settings=("lr=1e-3", "smart.eps=1", "model=a/b")
    )
    assert file.tasks == ["cola"] and list(file.methods) == ["smart"] and file.seeds == [3, 9]
    assert file.changed_settings == {"lr": 1e-3, "model": "a/b"} and file.hyper_parameters == ["smart.eps=1"]
    assert file.baselines == {}  # plain is not chosen
    assert read(GOOD, seeds=(4,)).seeds == 4


@pytest.mark.parametrize("text", ["2024", "2024-05-01", "1e5", "true", "a/b", ""])
def test_a_folder_of_the_command_line_is_a_text_whatever_it_looks_like(read, text):
    assert read(GOOD, folders={"data": text}).changed_settings == {"data": text}


MISTAKES = [
    ("tasks = [", "is not valid TOML"),
    ("task = ['rte']", "the unknown key task; did you mean tasks?"),
    ("name = 'a b'", "name 'a b' must consist of letters"),
    ("tasks = ['rt']", "'rt' is not a task; the tasks are cola"),
    ("tasks = 'rte'", "tasks must be a list"),
    ("tasks = []", "tasks must be a list"),
    ("tasks = ['rte', 'rte']", "tasks: rte appears twice"),
    ("tasks = ['sts', 'sst5+sts']", "tasks: sts appears twice"),
    ("compare_with = 'plan'", "compare_with: 'plan' is not a method; the methods are plain"),
    ("compare_with = {plain = 'plain'}", "plain is compared with itself"),
    ("compare_with = {plain = ['a']}", "compare_with: ['a'] is not a method"),
    ("settings = {rte = {lr = {a = 1}}}", "[settings.rte.lr] is a table; lr must be a value"),
    ("paper = {plain = {rte = {mean = nan}}}", "[paper.plain.rte] must hold numbers"),
    ("compare_with = 3", "compare_with must be a method or a table"),
    ("levene = 'mode'", 'levene must be "median" or "mean", not \'mode\''),
    ("score = 'f1'", "score must be a table"),
    ("tasks = ['mrpc']\nscore = {mrpc = 'f2'}", "mrpc has the metrics accuracy, f1, not 'f2'"),
    ("score = {mrpc = 'f1'}", "[score] has no effect: the file's tasks score rte, not mrpc"),
    ("paper = {plain = {cola = {mean = 1}}}", "[paper.plain.cola] has no effect: the file's tasks score rte, not cola"),
    ("score = {mrp = 'f1'}", "'mrp' is not a task"),
    ("settings = {rtte = {epochs = 2}}", "[settings.rtte] has no effect: rtte is not in tasks, which has rte"),
    ("settings = {cola = {epochs = 2}}", "[settings.cola] has no effect: cola is not in tasks, which has rte"),
    ("paper = {plain = {rte = {avg = 1}}}", "[paper.plain.rte] has the unknown key avg"),
    ("paper = {plain = {rte = {mean = 'x'}}}", "[paper.plain.rte] must hold numbers"),
    ("paper = {plain = {mean = 1}}", "[paper.plain] must hold tables"),
    ("paper = {other = {rte = {mean = 1}}}", "[paper]: 'other' is not a method"),
]


@pytest.mark.parametrize("line, message", MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_named(read, line, message):
    with pytest.raises(InputError) as error:
        read(f"{line}\n[methods.plain]\noption = 'finetune'\n")
    assert message in str(error.value) and "\n" not in str(error.value).removesuffix("\n")


@pytest.mark.parametrize(
    "methods, message",
    [
        ("", "the file has no methods: add "),
        ("methods = {a = 1}", "methods.a must be a"),
        ("[methods.a.cola]\nepochs = 2", r"\[methods.a.cola\] has no effect: cola is not in tasks"),
    ],
)
def test_methods_are_tables(read, methods, message):
    with pytest.raises(InputError, match=message):
        read(methods)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^\S*none\.toml does not exist$"):
        load_study(tmp_path / "none.toml", Overrides())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": ("smrt",)}, "--methods: 'smrt'"),
        ({"tasks": ("rtte",)}, "tasks: 'rtte'"),
        ({"tasks": ("sts+sst5",)}, r"--tasks sts\+sst5: the file has these tasks as sst5\+sts"),
        ({"settings": ("lr",)}, "--set lr must look like"),
        ({"settings": ("rte={epochs=1}",)}, "the value is a table, which only the file can hold"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(read, changes, message):
    with pytest.raises(InputError, match=message):
        read(GOOD, **changes)

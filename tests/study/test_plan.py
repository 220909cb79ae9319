"""The runs of a study have the settings that train.py and multitask.py would have."""

import pytest

import sample
import train
from minbert.errors import InputError
from minbert.training.arguments import parse_settings
from minbert.training.settings import MultitaskSettings, Settings
from regularizers import build
from study.plan import choose_shard, load_study
from study.results import find_point
from study.study_file import Overrides

PLAIN = "[methods.plain]\noption = 'finetune'\n"


@pytest.fixture
def load(tmp_path):
    def load_text(text: str, **overrides):
        path = tmp_path / "study.toml"
        path.write_text(text, encoding="utf-8")
        return load_study(path, Overrides(**overrides))

    return load_text


def as_the_program(program: type, *argv: str):
    """The settings of train.py or multitask.py with these flags."""
    settings = parse_settings(program, list(argv), "")
    return train.fill_in_defaults(settings, build(settings.option, settings.method_settings))


def test_settings_equal_those_of_the_same_flags(load):
    """Booleans, several values, an option's own rate (LoRA's), the sample's recipe, hyper-parameters."""
    text = """
    tasks = ["cola", "sst5+quora"]
    seeds = [7]
    [settings]
    batch-size = 8
    bias-correction = false
    evaluate = ["dev", "train"]
    adam-betas = [0.9, 0.98]
    [settings."sst5+quora"]
    task-weights = ["quora=0.5"]
    [methods.narrow]
    option = "lora"
    set = ["lora.r=4"]
    """
    flags = ["--batch-size", "8", "--no-bias-correction", "--evaluate", "dev", "train", "--adam-betas", "0.9", "0.98"]
    flags += ["--option", "lora", "--set", "lora.r=4", "--seed", "7", "--save", "none"]
    cola, both = load(text).runs
    assert cola.settings == as_the_program(Settings, *flags, "--task", "cola")
    several = ["--tasks", "sst5", "quora", "--task-weights", "quora=0.5"]
    assert both.settings == as_the_program(MultitaskSettings, *flags, *several)
    assert cola.settings.model == str(sample.MODEL) and cola.settings.lr != sample.RECIPE["lr"]  # LoRA's


def test_later_layers_win(load):
    text = """
    tasks = ["rte", "cola"]
    seeds = 1
    settings = {epochs = 1, batch-size = 4, max-length = 16, lr = 1e-5, cola = {epochs = 2, batch-size = 5}}
    methods = {a = {batch-size = 6, cola = {max-length = 24}}}
    """
    rte, cola = load(text, settings=("lr=0.5",)).runs
    values = [
        (run.settings.epochs, run.settings.batch_size, run.settings.max_length, run.settings.lr) for run in (rte, cola)
    ]
    assert values == [(1, 6, 16, 0.5), (2, 6, 24, 0.5)]


def test_a_list_makes_a_grid_and_a_list_of_lists_one_of_settings_with_several_values(load):
    text = """
    seeds = 2
    settings = {lr = [1e-4, 1e-3]}
    methods = {a = {option = "smart", set = [["smart.eps=1e-3"], ["smart.eps=1e-2", "smart.mu=0"]]}, b = {lr = 0.5}}
    """
    runs = load(text).runs
    of_a = [(run.settings.lr, run.settings.method_settings, run.settings.seed) for run in runs if run.method == "a"]
    sets = [("smart.eps=1e-3",), ("smart.eps=1e-2", "smart.mu=0")]
    assert of_a == [(lr, values, seed) for seed in (0, 1) for lr in (1e-4, 1e-3) for values in sets]
    assert runs[0].point == {"lr": 1e-4, "set": "smart.eps=1e-3"}
    assert [(run.point, run.settings.lr) for run in runs if run.method == "b"] == 2 * [({}, 0.5)]
    assert runs[1].name == "rte-a-lr=0.0001-set=smart.eps=1e-2_smart.mu=0-seed0"
    assert len({run.name for run in runs}) == len(runs) == 10


def test_seeds_are_the_outermost_loop(load):
    runs = load("tasks = ['rte', 'cola']\nseeds = [3, 1]\n" + PLAIN).runs
    assert [(run.task, run.settings.seed) for run in runs] == [("rte", 3), ("cola", 3), ("rte", 1), ("cola", 1)]
    assert all(run.settings.seed == run.settings.init_seed == run.settings.data_seed for run in runs)


def test_init_and_data_seeds_are_crossed(load):
    runs = load("seeds = {init = 2, data = [5, 8, 9]}\n" + PLAIN).runs
    seeds = [(run.settings.seed, run.settings.init_seed, run.settings.data_seed) for run in runs]
    assert seeds == [(0, 0, 5), (1, 0, 8), (2, 0, 9), (3, 1, 5), (4, 1, 8), (5, 1, 9)]
    assert runs[4].name == "rte-plain-init1-data8"


def test_a_hyper_parameter_of_the_command_line_replaces_that_of_the_file(load):
    text = """
    seeds = 1
    [methods.a]
    option = "smart+l2sp"
    set = ["smart.eps=1e-3", "l2sp.alpha=0.5"]
    [methods.b]
    option = "finetune"
    """
    a, b = load(text, settings=("smart.eps=1e-2", "smart.mu=0")).runs
    assert a.settings.method_settings == ("l2sp.alpha=0.5", "smart.eps=1e-2", "smart.mu=0")
    assert b.settings.method_settings == ()


MISTAKES = [
    ("settings = {epoch = 1}", {}, "[settings] has the unknown key epoch; did you mean epochs?"),
    ("settings = {seed = 1}", {}, "[settings] has the unknown key seed"),
    ("settings = {sampling = 'annealed'}", {}, "unknown key sampling"),  # of multitask.py
    ("settings = {epochs = 'two'}", {}, "method plain on rte: epochs cannot be 'two'"),
    ("settings = {epochs = 0}", {}, "method plain on rte: --epochs must be at least 1, not 0"),
    ("settings = {epochs = []}", {}, "epochs: the list is empty"),
    ("settings = {epochs = [2, 2]}", {}, "two values of a grid give the same run rte-plain-epochs=2-seed0"),
    ("settings = {lr = [1, 1.0]}", {}, "two values of a grid give the same run rte-plain-lr=1.0-seed0"),
    ("", {"settings": ("lr=[]",)}, "lr: the list is empty"),
    ("settings = {set = 'smart.eps=1'}", {}, "set cannot be 'smart.eps=1'"),
    (
        "settings = {set = ['smart.eps=1']}",
        {},
        "method plain on rte: --set smart.eps=1: smart is not in --option finetune",
    ),
    ("settings = {model = 'no/such/model/here'}", {}, "no/such/model/here is not a folder with a model"),
    ("seeds = 0", {}, "seeds = 0: give a number"),
    ("seeds = [1, 1]", {}, "seeds = [1, 1]: give a number"),
    ("seeds = [-1]", {}, "--seed must be at least 0"),
    ("seeds = {start = 1}", {}, "seeds has the unknown key start"),
    ("seeds = true", {}, "seeds = True: give"),
    ("", {"settings": ("smart.eps=1",)}, "--set smart.eps=1: no chosen method uses it"),
    ("", {"settings": ("smrt.eps=1",)}, "--set smrt.eps=1: there is no such option"),
    ("", {"settings": ("epoch=1",)}, "--set has the unknown key epoch; did you mean epochs?"),
]


@pytest.mark.parametrize("line, overrides, message", MISTAKES)
def test_a_mistake_is_named_before_any_run(load, tmp_path, line, overrides, message):
    with pytest.raises(InputError) as error:
        load(line + "\n" + PLAIN, **overrides)
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path / 'study.toml'}: ")


GRID = """
compare_with = "plain"
[methods.plain]
lr = [1e-4, 2e-4]
[methods.smart]
option = "smart"
lr = {lr}
"""


@pytest.mark.parametrize("lr", ["[2e-4, 5e-4]", "[1e-4, 2e-4]"])
def test_grids_with_a_common_point_can_be_compared(load, lr):
    assert load(GRID.format(lr=lr)).file.baselines == {"smart": "plain"}


@pytest.mark.parametrize("lr", ["3e-4", "[3e-4, 5e-4]"])
def test_a_comparison_without_a_common_point_is_refused(load, lr):
    with pytest.raises(
        InputError, match="no run of smart on rte has the settings of a run of plain; give both the same"
    ):
        load(GRID.format(lr=lr))


def test_a_baseline_with_one_point_is_compared_with_every_point(load):
    text = GRID.replace("lr = [1e-4, 2e-4]\n", "").format(lr="[3e-4, 5e-4]")
    assert len(load(text).runs) == 30


@pytest.mark.parametrize("methods", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_shards_are_disjoint_and_share_every_cell(load, methods, count):
    runs = load("tasks = ['rte']\nseeds = 14\n" + "".join(f"[methods.m{i}]\n" for i in range(methods))).runs
    shards = [choose_shard(runs, part, count) for part in range(1, count + 1)]
    assert sorted(run.name for shard in shards for run in shard) == sorted(run.name for run in runs)
    assert all(shard == [run for run in runs if run in shard] for shard in shards)
    for group in (runs, *([run for run in runs if run.cell == cell] for cell in {run.cell for run in runs})):
        shares = [sum(run in shard for run in group) for shard in shards]
        assert max(shares) - min(shares) <= 1


def test_a_grid_over_a_hyper_parameter_meets_the_baseline_with_the_same_rate(load):
    text = """
    settings = {lr = [1e-4, 2e-4]}
    compare_with = "plain"
    [methods.plain]
    [methods.smart]
    option = "smart"
    set = [["smart.eps=1e-3"], ["smart.eps=1e-2"]]
    """
    points = [run.point for run in load(text, seeds=(1,)).runs]
    baseline, own = points[:2], points[2:]
    assert [find_point(point, baseline) for point in own] == [0, 0, 1, 1]
    assert find_point({"lr": 3e-4}, baseline) is None and find_point({"epochs": 3}, baseline) is None
    assert find_point({"lr": 3e-4}, baseline[:1]) == 0 and find_point({}, []) is None


def test_a_name_that_no_file_system_takes_is_refused(load):
    with pytest.raises(InputError, match="is too long: use shorter names"):
        load(f"[methods.{'a' * 220}]")


def test_hyper_parameters_reach_an_option_of_one_task_or_of_the_command_line(load):
    text = "seeds = 1\ntasks = ['rte', 'cola']\n[methods.a.rte]\noption = 'smart'\n"
    rte, cola = load(text, settings=("smart.eps=1",)).runs
    assert (rte.settings.method_settings, cola.settings.method_settings) == (("smart.eps=1",), ())
    (plain,) = load("seeds = 1\n" + PLAIN, settings=("option=smart", "smart.eps=1")).runs
    assert plain.settings.method_settings == ("smart.eps=1",)


def test_no_seeds_are_refused_on_the_command_line_too(load):
    with pytest.raises(InputError, match="seeds = 0: give a number"):
        load(PLAIN, seeds=(0,))


def test_a_whole_number_in_place_of_a_count_is_refused_even_if_it_equals_the_default(load):
    with pytest.raises(InputError, match=r"batch-size cannot be 32\.0"):
        load("[methods.plain]\nbatch-size = 32.0\n")
    with pytest.raises(InputError, match="bias-correction cannot be 1"):
        load("[methods.plain]\nbias-correction = 1\n")


@pytest.mark.parametrize("given", ["5", '"smart.eps=1e-3"'])
def test_a_set_that_is_no_list_is_refused_with_a_change_of_the_command_line_too(load, given):
    with pytest.raises(InputError, match="set cannot be"):
        load(f"[methods.smart]\noption = 'smart'\nset = {given}\n", settings=("smart.mu=1",))

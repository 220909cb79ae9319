"""From a study file to the runs it asks for. The settings of all runs are checked before the first one starts."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from minbert.errors import InputError
from minbert.files import read_toml
from minbert.training.arguments import saved_value
from minbert.training.setting_fields import flag_of
from minbert.training.settings import CommonSettings, MultitaskSettings, Settings
from regularizers import OPTIONS, build
from study.results import find_point
from study.study_file import Overrides, StudyFile, check_keys, check_study_file
from train import fill_in_defaults

OF_THE_STUDY = ("task", "tasks", "seed", "init_seed", "data_seed", "out", "resume")  # no file sets these


@dataclass(frozen=True)
class Run:
    """One run that a study asks for."""

    name: str  # of its folder
    task: str  # rte, or sst5+quora+sts for a run of multitask.py
    method: str
    point: dict[str, Any]  # the grid's settings in this run: {"lr": 1e-4}
    settings: CommonSettings  # resolved, without --out

    @property
    def cell(self) -> tuple:
        """The key of the run's cell: task, method, point of the grid."""
        return self.task, self.method, tuple(self.point.items())


@dataclass(frozen=True)
class Study:
    """A study file and its runs."""

    file: StudyFile
    runs: list[Run]

    @property
    def name(self) -> str:
        return self.file.name


def load_study(path: Path | str, overrides: Overrides) -> Study:
    """Read a study file, apply the command line's changes, and resolve the settings of every run.

    Raises InputError that names the file and the key, or the method and the task.
    """
    path = Path(path)
    content = read_toml(path)
    try:
        file = check_study_file(content, path, overrides)
        runs = list(plan_runs(file))
        check_names(runs)
        check_baselines(file, runs)
        return Study(file, runs)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def plan_runs(file: StudyFile) -> Iterator[Run]:
    """All runs. The seed is the outermost loop, so a study that is stopped early has similar numbers of seeds."""
    check_hyper_parameters(file)
    pairs = list(itertools.product(file.tasks, file.methods))
    points = {pair: list(expand_grid(merged_settings(file, *pair), program_of(pair[0]))) for pair in pairs}
    for seeds in parse_seeds(file.seeds):
        for task, method in pairs:
            for values, point in points[task, method]:
                try:
                    settings = resolve(program_of(task), names_for_program(file, task), values | seeds)
                except InputError as error:
                    raise InputError(f"method {method} on {task}: {error}") from None
                yield Run(run_name(task, method, point, settings), task, method, point, settings)


def parse_seeds(seeds: Any) -> list[dict[str, int]]:
    """The seeds of each run. seeds = 10, [3, 4], or {init = 5, data = 4}, which joins each head with each order."""
    if isinstance(seeds, dict):
        check_keys(seeds, ("init", "data"), "seeds")
        pairs = itertools.product(numbers(seeds.get("init", 1)), numbers(seeds.get("data", 1)))
        # Dropout and noise get another seed in each run: they belong to the rest of the variance.
        return [{"seed": index, "init_seed": init, "data_seed": data} for index, (init, data) in enumerate(pairs)]
    return [{"seed": seed} for seed in numbers(seeds)]


def numbers(seeds: Any) -> list[int]:
    """5 -> [0, 1, 2, 3, 4]; a list as it is."""
    chosen = list(range(seeds)) if type(seeds) is int else seeds
    is_list = isinstance(chosen, list) and all(type(seed) is int for seed in chosen)
    if not is_list or not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"seeds = {seeds!r}: give a number, a list of different numbers, or {{init = 5, data = 5}}")
    return chosen


def program_of(task: str) -> type[CommonSettings]:
    """The program that runs this entry of `tasks`: train.py, or multitask.py for several tasks joined with +."""
    return MultitaskSettings if "+" in task else Settings


def settings_fields(program: type[CommonSettings]) -> dict[str, Field]:
    """The settings that a study file can give, by their flags without the dashes: batch-size, set."""
    return {flag_of(f).removeprefix("--"): f for f in fields(program) if f.name not in OF_THE_STUDY}


def merged_settings(file: StudyFile, task: str, method: str) -> dict[str, Any]:
    """{field: value or list of a grid} of a method on a task. Later layers win."""
    of_method = file.methods[method]
    layers = {
        "[settings]": file.settings,
        f"[settings.{task}]": file.settings.get(task, {}),
        f"[methods.{method}]": of_method,
        f"[methods.{method}.{task}]": of_method.get(task, {}),
        "--set": file.changed_settings,
    }
    known = settings_fields(program_of(task))
    merged: dict[str, Any] = {"save": "none"}
    for where, layer in layers.items():
        given = {key: value for key, value in layer.items() if not isinstance(value, dict)}
        check_keys(given, list(known), where)
        merged |= {known[key].name: value for key, value in given.items()}
    options = names_of(merged.get("option", "finetune"))
    changes = [item for item in file.hyper_parameters if item.partition(".")[0] in options]
    if changes:
        merged["method_settings"] = change_hyper_parameters(merged.get("method_settings", []), changes)
    return merged


def check_hyper_parameters(file: StudyFile) -> None:
    """Raise InputError for --set smart.eps=1e-3 if no method uses smart."""
    merged = [merged_settings(file, task, method) for task in file.tasks for method in file.methods]
    used = set().union(*(names_of(settings.get("option", "finetune")) for settings in merged))
    for item in file.hyper_parameters:
        if (name := item.partition(".")[0]) not in used:
            what = "no chosen method uses it" if name in OPTIONS else "there is no such option"
            raise InputError(f"--set {item}: {what}")


def names_of(option: Any) -> set[str]:
    """The options in smart+l2sp, or in a grid of options."""
    texts = option if isinstance(option, list) else [option]
    return {name for text in texts for name in str(text).split("+")}


def change_hyper_parameters(given: list, changes: list[str]) -> list:
    """Add hyper-parameters to a method's own, in place of those with the same name. `given` may be a grid of lists."""
    if not isinstance(given, list):
        return given  # resolve() names the mistake
    if given and isinstance(given[0], list):
        return [change_hyper_parameters(values, changes) for values in given]
    changed = {item.partition("=")[0] for item in changes}
    return [item for item in given if str(item).partition("=")[0] not in changed] + changes


def expand_grid(merged: dict[str, Any], program: type[CommonSettings]) -> Iterator[tuple[dict, dict]]:
    """Yield (all settings, the grid's settings by their flags) for each point of the grid."""
    by_name = {f.name: (key, f) for key, f in settings_fields(program).items()}
    grid = [name for name, value in merged.items() if is_grid(by_name[name][1], value)]
    for name in grid:
        if not merged[name]:
            raise InputError(f"{by_name[name][0]}: the list is empty")
    for point in itertools.product(*(merged[name] for name in grid)):
        chosen = dict(zip(grid, point, strict=True))
        yield merged | chosen, {by_name[name][0]: format_grid_value(value) for name, value in chosen.items()}


def is_grid(f: Field, value: Any) -> bool:
    """A list makes a grid. For a setting that takes several values, a list of lists does."""
    if not isinstance(value, list):
        return False
    return not f.metadata["many"] or (len(value) > 0 and isinstance(value[0], list))


def format_grid_value(value: Any) -> Any:
    """A value of a grid as reports and folder names show it: ["smart.eps=1e-3"] -> smart.eps=1e-3"""
    return " ".join(map(str, value)) if isinstance(value, list) else value


def names_for_program(file: StudyFile, task: str) -> tuple[str, ...]:
    """The tasks of an entry as --task and --tasks take them: a task of the user's own is the path of its file."""
    return tuple(str(file.task_files.get(name, name)) for name in task.split("+"))


def resolve(program: type[CommonSettings], names: tuple[str, ...], values: dict[str, Any]) -> CommonSettings:
    """The checked settings of one run, as train.py or multitask.py would have them. Raises InputError."""
    by_name = {f.name: f for f in fields(program)}
    converted = {}
    for name, value in values.items():
        try:
            converted[name] = saved_value(by_name[name], value)
        except ValueError:
            raise InputError(f"{flag_of(by_name[name]).removeprefix('--')} cannot be {value!r}") from None
    tasks = {"tasks": names} if program.multitask else {"task": names[0]}
    settings = program(**converted, **tasks).check()
    return fill_in_defaults(settings, build(settings.option, settings.method_settings))


def run_name(task: str, method: str, point: dict[str, Any], settings: CommonSettings) -> str:
    """rte-smart-lr=0.0001-seed3: the name of the run's folder."""
    seeds = settings.seed, settings.init_seed, settings.data_seed
    seed = f"seed{seeds[0]}" if len(set(seeds)) == 1 else f"init{seeds[1]}-data{seeds[2]}"
    parts = [task, method, *(f"{key}={value}" for key, value in point.items()), seed]
    return re.sub(r"[^A-Za-z0-9+=.,_-]+", "_", "-".join(parts))


def check_names(runs: list[Run]) -> None:
    """Raise InputError if two runs have one folder or are the same run (lr = [1, 1.0]), or if a name is too long."""
    names, settings = set(), set()
    for run in runs:
        seeds = run.settings.seed, run.settings.init_seed, run.settings.data_seed
        if run.name in names or (run.cell, seeds) in settings:
            raise InputError(f"two values of a grid give the same run {run.name}")
        if len(run.name.encode()) > 200:  # file systems take 255 bytes, and files need suffixes
            raise InputError(f"the name of the run {run.name} is too long: use shorter names or a smaller grid")
        names.add(run.name)
        settings.add((run.cell, seeds))


def check_baselines(file: StudyFile, runs: list[Run]) -> None:
    """Raise InputError for a comparison that cannot be made, because no run of the baseline has the same settings."""
    points: dict[tuple[str, str], list[dict]] = {}
    for run in runs:
        of_method = points.setdefault((run.task, run.method), [])
        if run.point not in of_method:
            of_method.append(run.point)
    for (task, method), of_method in points.items():
        baseline = file.baselines.get(method)
        of_baseline = points.get((task, baseline))
        if of_baseline and not any(find_point(point, of_baseline) is not None for point in of_method):
            raise InputError(
                f"compare_with: no run of {method} on {task} has the settings of a run of {baseline}; "
                "give both the same grid"
            )


def choose_shard(runs: list[Run], part: int, count: int) -> list[Run]:
    """The runs of part `part` of `count`, which do not depend on what is finished.

    The runs are dealt out cell by cell, so that each part gets its share of every cell: no part gets all runs of the
    slowest method. A part keeps the order of the study.
    """
    cells = list(dict.fromkeys(run.cell for run in runs))
    cell_by_cell = sorted(runs, key=lambda run: cells.index(run.cell))
    chosen = {run.name for run in cell_by_cell[part - 1 :: count]}
    return [run for run in runs if run.name in chosen]

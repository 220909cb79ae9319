"""A study file (TOML), checked, with the command line's overrides. docs/studies.md has the format."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minbert.data.task_file import load_task_file
from minbert.data.tasks import TASKS
from minbert.errors import InputError, did_you_mean
from minbert.task import Task

TABLES = ("score", "settings", "methods", "paper")
KEYS = ("name", "about", "task_files", "tasks", "seeds", "compare_with", "levene", *TABLES)
PAPER_KEYS = ("n", "mean", "std", "median", "min", "max", "failed")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+=._-]*")  # a study's or a method's: part of a folder's name


@dataclass(frozen=True)
class Overrides:
    """What the command line changes in a study file. () changes nothing."""

    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()  # one number N: the seeds 0 to N - 1
    settings: tuple[str, ...] = ()  # lr=1e-5, or smart.eps=1e-3 for the methods that use smart
    folders: dict[str, str] = field(default_factory=dict)  # --model and --data: always texts, also 2024


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file."""

    name: str
    about: str
    tasks: list[str]
    seeds: Any
    methods: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    baselines: dict[str, str]  # method -> the method it is compared with
    levene: str  # what Levene's test measures distances from: median or mean
    metrics: dict[str, str]  # task -> the metric that replaces its score
    paper: dict[str, dict[str, dict[str, float]]]  # method -> task -> the paper's numbers
    changed_settings: dict[str, Any] = field(default_factory=dict)  # by the command line
    hyper_parameters: list[str] = field(default_factory=list)  # from the command line: smart.eps=1e-3
    task_files: dict[str, Path] = field(default_factory=dict)  # task of the user's own -> its task file

    def task(self, name: str) -> Task:
        """The task of the table, or of a task file, with this name."""
        return load_task_file(self.task_files[name]) if name in self.task_files else TASKS[name]


def check_study_file(content: dict[str, Any], path: Path, overrides: Overrides) -> StudyFile:
    """Check the content of the study file at `path`, and apply the command line's overrides.

    Raises InputError for an unknown key and a value of the wrong shape.
    """
    check_keys(content, KEYS, "the file")
    for key in TABLES:
        if not isinstance(content.get(key, {}), dict):
            raise InputError(f"{key} must be a table: [{key}]")
    methods = check_methods(content.get("methods", {}))
    settings, hyper_parameters = split_overrides(overrides.settings)
    own = find_task_files(content.get("task_files", []), path.parent)
    known = TASKS | {name: load_task_file(file) for name, file in own.items()}
    tasks = content.get("tasks", ["rte"])
    check_tasks(tasks, known)
    names = [name for entry in tasks for name in scored_names(entry)]
    check_task_tables("settings", content.get("settings", {}), tasks)
    for name, table in methods.items():
        check_task_tables(f"methods.{name}", table, tasks)
    metrics = check_metrics(content.get("score", {}), known, names)
    paper = check_paper(content.get("paper", {}), methods, names)
    if overrides.tasks:
        tasks = list(overrides.tasks)
        check_tasks(tasks, known)
        check_other_tasks(tasks, content.get("tasks", ["rte"]), methods)
        paper = keep_paper_numbers(paper, tasks, content.get("tasks", ["rte"]))
    chosen = choose(methods, overrides.methods)
    baselines = check_baselines(content.get("compare_with", {}), methods)
    return StudyFile(
        name=check_name(content.get("name", path.stem), "name"),
        about=" ".join(str(content.get("about", "")).split()),
        tasks=tasks,
        seeds=one_or_many(overrides.seeds) if overrides.seeds else content.get("seeds", 10),
        methods=chosen,
        settings=content.get("settings", {}),
        baselines={method: baseline for method, baseline in baselines.items() if baseline in chosen},
        levene=check_center(content.get("levene", "median")),
        metrics=metrics,
        paper=paper,
        changed_settings=settings | overrides.folders,
        hyper_parameters=hyper_parameters,
        task_files=own,
    )


def find_task_files(names: Any, folder: Path) -> dict[str, Path]:
    """The tasks of the user's own by name -> their files, whose paths are relative to the study file's folder."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError('task_files must be a list: task_files = ["reviews.toml"]')
    files = {load_task_file(folder / name).name: (folder / name).absolute() for name in names}
    if len(files) < len(names):
        raise InputError("task_files: two files have a task of the same name")
    return files


def check_keys(table: dict[str, Any], known: tuple[str, ...] | list[str], where: str) -> None:
    """Raise InputError for a key that is not known."""
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known are {', '.join(known)}"
            raise InputError(f"{where} has the unknown key {key}{hint}")


def check_name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(f"{what} {name!r} must consist of letters, digits and + = . _ -")
    return name


def check_task(entry: Any, where: str, known: Mapping[str, Task]) -> None:
    """An entry is a task of train.py, or several tasks of multitask.py that are joined with +."""
    unknown = [name for name in str(entry).split("+") if name not in known]
    if unknown:
        raise InputError(f"{where}: {unknown[0]!r} is not a task; the tasks are {', '.join(known)}")


def check_tasks(tasks: Any, known: Mapping[str, Task]) -> None:
    """Raise InputError unless each task is scored by one entry only: a column of the report has one meaning."""
    if not isinstance(tasks, list) or not tasks:
        raise InputError('tasks must be a list: tasks = ["rte"]')
    for entry in tasks:
        check_task(entry, "tasks", known)
    names = [name for entry in tasks for name in scored_names(entry)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"tasks: {name} appears twice")


def check_task_tables(where: str, table: dict[str, Any], tasks: list[str]) -> None:
    """Raise InputError for a table of settings for a task that the file does not train: it would have no effect."""
    for key, value in table.items():
        if not isinstance(value, dict):
            continue
        if key not in tasks:
            raise InputError(f"[{where}.{key}] has no effect: {key} is not in tasks, which has {', '.join(tasks)}")
        for name, inner in value.items():
            if isinstance(inner, dict):
                raise InputError(f"[{where}.{key}.{name}] is a table; {name} must be a value")


def check_other_tasks(tasks: list[str], of_file: list[str], methods: dict[str, dict[str, Any]]) -> None:
    """Raise InputError for a task of --tasks that is not in the file, and lacks settings that the file's tasks have.

    It is refused if the file has the same tasks in another order (sts+sst5 and sst5+sts), and if a method has a setting
    only in the tables of the single tasks, one for each task of the file: on another task the method would lack it.
    """
    for entry in [entry for entry in tasks if entry not in of_file]:
        for other in of_file:
            if sorted(entry.split("+")) == sorted(other.split("+")):
                raise InputError(f"--tasks {entry}: the file has these tasks as {other}")
        for name, table in methods.items():
            of_tasks = [table[task] if isinstance(table.get(task), dict) else {} for task in of_file]
            lacking = set.intersection(*map(set, of_tasks)) - set(table)
            if lacking and len(of_file) > 1:
                raise InputError(f"--tasks {entry}: methods.{name} sets {min(lacking)} for {', '.join(of_file)} only")


def keep_paper_numbers(
    paper: dict[str, dict[str, dict[str, float]]], tasks: list[str], of_file: list[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """The paper's numbers without those of a task that --tasks trains in another way: alone, or with other tasks."""
    same = {name for entry in tasks if entry in of_file for name in scored_names(entry)}
    return {method: {task: table[task] for task in table if task in same} for method, table in paper.items()}


def scored_names(entry: str) -> list[str]:
    """What a run gets scores for: rte; of sst5+sts the average sst5+sts, then sst5 and sts."""
    names = entry.split("+")
    return [entry, *names] if len(names) > 1 else [entry]


def check_methods(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if not table:
        raise InputError('the file has no methods: add [methods.plain] with option = "finetune"')
    for name, settings in table.items():
        check_name(name, "method")
        if not isinstance(settings, dict):
            raise InputError(f"methods.{name} must be a table: [methods.{name}]")
    return table


def choose(methods: dict[str, dict[str, Any]], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The methods that --methods names; all without it."""
    for name in names:
        check_method(name, methods, "--methods")
    return {name: settings for name, settings in methods.items() if name in names or not names}


def check_method(name: Any, methods: dict[str, Any], where: str) -> None:
    if not isinstance(name, str) or name not in methods:
        raise InputError(f"{where}: {name!r} is not a method; the methods are {', '.join(methods)}")


def check_baselines(value: Any, methods: dict[str, Any]) -> dict[str, str]:
    """compare_with = "plain" compares every other method with plain; a table names each method's baseline."""
    baselines = {name: value for name in methods if name != value} if isinstance(value, str) else value
    if not isinstance(baselines, dict):
        raise InputError("compare_with must be a method or a table from methods to methods")
    for method, baseline in baselines.items():
        check_method(method, methods, "compare_with")
        check_method(baseline, methods, "compare_with")
        if method == baseline:
            raise InputError(f"compare_with: {method} is compared with itself")
    return baselines


def check_center(value: Any) -> str:
    if value not in ("median", "mean"):
        raise InputError(f'levene must be "median" or "mean", not {value!r}')
    return value


def check_metrics(table: dict[str, Any], known: Mapping[str, Task], scored: list[str]) -> dict[str, str]:
    for task, metric in table.items():
        if task not in known:
            raise InputError(f"[score]: {task!r} is not a task")
        check_scored(task, "[score]", scored)
        if metric not in known[task].metrics:
            raise InputError(f"[score]: {task} has the metrics {', '.join(known[task].metrics)}, not {metric!r}")
    return table


def check_scored(name: str, where: str, scored: list[str]) -> None:
    """Raise InputError for a table on something that the file's tasks do not score: it would have no effect."""
    if name not in scored:
        raise InputError(f"{where} has no effect: the file's tasks score {', '.join(scored)}, not {name}")


def check_paper(
    table: dict[str, Any], methods: dict[str, Any], scored: list[str]
) -> dict[str, dict[str, dict[str, float]]]:
    for method, tasks in table.items():
        check_method(method, methods, "[paper]")
        for task, numbers in tasks.items() if isinstance(tasks, dict) else [("", None)]:
            where = f"[paper.{method}.{task}]"
            if not isinstance(numbers, dict):
                raise InputError(f"[paper.{method}] must hold tables: [paper.{method}.rte]")
            check_scored(task, where, scored)
            check_keys(numbers, PAPER_KEYS, where)
            if not all(type(number) in (int, float) and abs(number) < 1e9 for number in numbers.values()):  # no NaN
                raise InputError(f"{where} must hold numbers")
    return table


def one_or_many(seeds: tuple[int, ...]) -> int | list[int]:
    """--seeds 5 are the seeds 0 to 4, --seeds 3 7 those two."""
    return seeds[0] if len(seeds) == 1 else list(seeds)


def split_overrides(items: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """--set lr=1e-5 smart.eps=1e-3 -> ({"lr": 1e-5}, ["smart.eps=1e-3"]). A value is TOML, or else text."""
    settings: dict[str, Any] = {}
    hyper_parameters = []
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise InputError(f"--set {item} must look like lr=1e-5 or smart.eps=1e-3")
        if "." in key:
            hyper_parameters.append(item)
        else:
            settings[key] = toml_value(value)
            if isinstance(settings[key], dict):
                raise InputError(f"--set {item}: the value is a table, which only the file can hold")
    return settings, hyper_parameters


def toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a path or a name, without quotes

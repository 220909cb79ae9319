"""The fingerprint of a run does not depend on what its process did before. (Changes are in test_resume.py.)"""

from dataclasses import replace

from minbert.training.fingerprint import changed, take_fingerprint
from minbert.training.inputs import Inputs
from minbert.training.settings import MultitaskSettings, Settings


def fingerprint(settings: Settings, inputs: Inputs) -> dict[str, str]:
    (task,) = settings.chosen_tasks
    examples = {task.name: inputs.examples(task, settings)}
    return take_fingerprint(settings, "fp32", examples, inputs.tokenizer(settings), inputs)


def test_it_is_the_same_after_other_runs_of_the_process(model_folder, data_folder):
    """A run of a study may be the first of its process, or the second after one with another --max-length."""
    settings = Settings(model=str(model_folder), data=str(data_folder)).resolve()
    first, inputs = fingerprint(settings, Inputs()), Inputs()
    other = replace(settings, max_length=32)
    inputs.datasets(other.chosen_tasks[0], other)  # sets the truncation of the tokenizer, before anything is hashed
    assert changed(first, fingerprint(settings, inputs)) == []
    assert changed(first, fingerprint(other, inputs)) == ["--max-length"]


def test_the_order_of_tasks_is_part_of_it(model_folder, data_folder):
    """It decides which head gets which numbers."""
    found = []
    for tasks in (("rte", "mrpc"), ("mrpc", "rte")):
        settings = MultitaskSettings(model=str(model_folder), data=str(data_folder), tasks=tasks).resolve()
        inputs = Inputs()
        found.append(take_fingerprint(settings, "fp32", {}, inputs.tokenizer(settings), inputs))
    assert changed(*found) == ["the definition of the tasks"]


def test_a_run_of_another_version_is_refused_in_one_short_line():
    before, now = {"the settings": "a", "the model": "b"}, {"--lr": "c", "--epochs": "d", "the model": "b"}
    assert changed(before, now) == changed(now, before) == ["the program's list of settings"]
    assert changed(now, now | {"the dev data of rte": "e"}) == ["the dev data of rte"]

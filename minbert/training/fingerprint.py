"""The fingerprint of a run: what its results follow from. A resumed run is refused if any of it has changed."""

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

from minbert.data.readers import Examples
from minbert.files import sha256
from minbert.tokenizer import Tokenizer
from minbert.training.inputs import Inputs
from minbert.training.setting_fields import flag_of
from minbert.training.settings import CommonSettings
from minbert.weights import weight_files

# Settings that the results do not depend on: places, and how often the state is saved.
PLACES = ("model", "data", "task", "tasks", "out", "resume", "device", "save", "checkpoint_steps", "checkpoint_minutes")

Fingerprint = dict[str, str]  # what -> a hash of it


def take_fingerprint(
    settings: CommonSettings,
    precision: str,
    examples: dict[str, dict[str, Examples]],  # by task and split
    tokenizer: Tokenizer,
    inputs: Inputs,
) -> Fingerprint:
    """Hash everything. `precision` is what --precision auto meant here. Runs of one process share the hash of a file.

    Raises InputError if the model cannot be read.
    """
    exact = replace(settings, precision=precision)
    fingerprint = {
        flag_of(f): hash_text(json.dumps(getattr(exact, f.name))) for f in fields(exact) if f.name not in PLACES
    }
    tasks = [replace(task, folder="", loss=None, divergence=None) for task in settings.chosen_tasks]
    fingerprint["the definition of the tasks"] = hash_text(repr(tasks))  # in their order
    fingerprint["the model"] = inputs.cached(hash_model, inputs.model_folder(settings))
    fingerprint["the tokenizer"] = inputs.cached(hash_tokenizer, tokenizer)
    for task, splits in examples.items():
        for split, rows in splits.items():
            fingerprint[data_key(split, task)] = inputs.cached(hash_examples, rows)
    return fingerprint


def data_key(split: str, task: str) -> str:
    """The name of a data file in a fingerprint, and in the message that it has changed."""
    return f"the {split} data of {task}"


def changed(before: Fingerprint, now: Fingerprint) -> list[str]:
    """What differs, in words. A run of another version may have other flags: then these are not named one by one."""
    if {what for what in before.keys() ^ now.keys() if what.startswith("--")}:
        return ["the program's list of settings"]
    return [what for what in now | before if before.get(what) != now.get(what)]


def hash_model(folder: Path) -> str:
    """Hash the config and all weights."""
    return hash_text(" ".join(sha256(path) for path in (folder / "config.json", *weight_files(folder))))


def hash_tokenizer(tokenizer: Tokenizer) -> str:
    """Hash all that its tokenizer.json would hold. Encoding sets the truncation, which is not part of the tokenizer."""
    return hash_text(json.dumps(json.loads(tokenizer.backend.to_str()) | {"truncation": None}))


def hash_examples(examples: Examples) -> str:
    """Hash ids, texts and labels, in their order."""
    hasher = hashlib.sha256()
    for row in examples.rows:
        hasher.update(repr((row.id, row.text, row.pair, row.label)).encode(errors="surrogatepass"))
    return hasher.hexdigest()


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

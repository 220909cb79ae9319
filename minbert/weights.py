"""Weights in and out: safetensors only, under the published names of published.py."""

import copy
import logging
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.errors import InputError, first_line
from minbert.files import check_regular_file, read_json_object, write_file, write_json
from minbert.published import (
    INSERTED,
    current_name,
    find_mismatches,
    is_inserted,
    plain_name,
    pooler_in,
    published_name,
)
from minbert.task import Task

logger = logging.getLogger("minbert")

CONVERT = (
    "If there are only pickled weights, convert them once on a machine that may run them: "
    "load them with transformers' AutoModelForPreTraining and call save_pretrained(folder, safe_serialization=True)"
)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


# Reading a published checkpoint.


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read model.safetensors, or the shards that its index names -> {today's published name: tensor}.

    The files are mapped, not read: a tensor that is never used costs nothing. Raises InputError that names the file.
    """
    tensors = {}
    for path in weight_files(folder):
        if not path.exists():
            raise InputError(f"{path} does not exist, but {INDEX} names it")
        for name, tensor in read_safetensors(path).items():
            if current_name(name) in tensors:
                raise InputError(f"{path}: {name} appears twice, under an old and a new name")
            tensors[current_name(name)] = tensor
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read one file. Raises InputError if it is damaged or missing."""
    check_regular_file(path)
    try:
        return load_file(path)
    except Exception as error:  # the library raises its own errors, torch's and the system's
        raise InputError(f"{path} cannot be read as safetensors: {first_line(error)}") from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder. Raises InputError if there are none."""
    check_regular_file(folder / WEIGHTS)
    if (folder / WEIGHTS).exists():  # before the index: a folder may hold both, and one file is simpler
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return shard_files(folder / INDEX)
    if (folder / "pytorch_model.bin").exists():
        raise InputError(f"{folder} has only pytorch_model.bin, a pickle, which can run any code when read. {CONVERT}")
    raise InputError(f"{folder} has no {WEIGHTS}. {CONVERT}")


def shard_files(index: Path) -> list[Path]:
    """The shards that an index names. They must lie in its folder: an index must not reach other folders."""
    files = read_json_object(index).get("weight_map")
    names = list(files.values()) if isinstance(files, dict) else [files]
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or not name.endswith(".safetensors"):
            raise InputError(f"{index} is not an index of safetensors files in its own folder: it names {name!r}")
    return [index.with_name(name) for name in sorted(set(names))]


def check_shapes(config: BertConfig, tensors: dict[str, Tensor], source: Path) -> None:
    """Raise InputError that lists what is missing, unexpected or of the wrong shape or type."""
    if mismatches := find_mismatches(config, tensors):
        raise InputError(f"{source}: the weights do not match config.json: {mismatches}")


def load_head(parameters: dict[str, Tensor], names: dict[str, str], tensors: dict[str, Tensor], source: Path) -> None:
    """Copy the tensors of a head into its parameters, in float32. `names` are their published names.

    All of these tensors exist. Raises InputError that names one of the wrong shape, not floating point or not finite.
    """
    for name, parameter in parameters.items():
        published = names[name]
        tensor = tensors[published]
        if tensor.shape != parameter.shape:
            raise InputError(f"{source}: {published} is {list(tensor.shape)}, not {list(parameter.shape)}")
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise InputError(f"{source}: {published} must hold finite floating point numbers")
        parameter.data.copy_(tensor)


def load_into(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy tensors whose shapes were checked into a BertModel, in float32. A missing pooler keeps its fresh weights.

    Raises InputError that names a tensor with NaN or infinity.
    """
    inserted = sum(name.startswith(INSERTED) for name in tensors)
    if inserted:
        logger.warning("%s also holds %d tensors of modules inserted into BERT: they are left out", source, inserted)
    family = model.config.family
    pooler = pooler_in(family, tensors)
    if pooler is None:
        logger.warning("%s has no pooler: the pooler starts from fresh weights", source)
        model.fresh_pooler = True
    # state_dict() gives the tensors themselves, so copy_ writes into the model, and converts half precision to float32.
    for name, parameter in model.state_dict().items():
        published = published_name(name, family, pooler)
        if published in tensors:
            parameter.copy_(tensors[published])
            # The sum is quick, and is finite only if all numbers are. A sum of huge numbers can overflow, so a sum
            # that is not finite proves nothing yet.
            if not parameter.sum().isfinite() and not parameter.isfinite().all():
                raise InputError(f"{source}: {published} holds NaN or infinity")
        elif not name.startswith("pooler."):
            raise InputError(f"the model has a parameter {name}, which standard BERT does not have")


# A whole SentenceModel.


def save_model(model: nn.Module, folder: Path) -> None:
    """Write a SentenceModel as config.json + model.safetensors, under the published names.

    With one task, its head has the family's published name and config.json has its labels: transformers reads it as a
    sequence classifier. With several tasks the heads are `classifier.<task>`. transformers does not know these, nor the
    head for separately encoded sentences, nor two classes with one logit (minbert.export gives these two), nor modules
    that a method inserted, without which the head gives other answers. config.json then announces an encoder without a
    head.
    """
    heads = {}
    for task, head in model.heads.items():
        prefix = head_name(model, task)
        # The weight that the head computes with. For R4F's head it is not the parameter that trains.
        heads |= {f"{prefix}.weight": head.weight, f"{prefix}.bias": head.bias}
    family = model.bert.config.family
    first = model.tasks[0]
    inserted = any(is_inserted(name) for name in model.bert.state_dict())
    if len(model.tasks) == 1 and not first.separate and not first.one_logit and not inserted:
        config = {"architectures": [f"{family.architectures}ForSequenceClassification"]} | label_fields(first)
        pooler = family.classifier_pooler
    else:
        config = {"architectures": [f"{family.architectures}Model"]}
        pooler = family.encoder_pooler
    save_bert(model.bert, folder, heads, config, pooler)


def load_model(model: nn.Module, folder: Path) -> None:
    """Load what save_model wrote, heads and inserted modules included.

    `model` is a SentenceModel of the same tasks with the same methods attached. Raises InputError that names a tensor
    that is missing or of the wrong shape.
    """
    tensors, family = read_tensors(Path(folder)), model.bert.config.family
    pooler = pooler_in(family, tensors)
    for name, parameter in model.state_dict().items():
        first, _, rest = name.partition(".")
        if first == "heads":
            task, kind = rest.split(".")
            # The file has the weight that the head computes with. Its parameter can have another name (R4F: direction).
            published = f"{head_name(model, task)}.{'bias' if kind == 'bias' else 'weight'}"
        else:
            published = published_name(rest, family, pooler)
        if published not in tensors:
            raise InputError(f"{folder}: {published} is missing")
        if tensors[published].shape != parameter.shape:
            shapes = f"{list(tensors[published].shape)} instead of {list(parameter.shape)}"
            raise InputError(f"{folder}: {published} has the shape {shapes}")
        parameter.copy_(tensors[published])


def save_bert(bert: nn.Module, folder: Path, heads: dict[str, Tensor], config: dict, pooler: str | None) -> None:
    """Write a BertModel and the tensors of its heads under published names; `config` adds fields to config.json.

    `pooler` is the pooler's name in the file; None leaves it out. Layers that are shared are written once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family, tensors = bert.config.family, {}
    for name, tensor in bert.state_dict().items():
        published = published_name(name, family, pooler)
        if published.startswith(INSERTED):
            tensors[published] = tensor
        elif not name.startswith("pooler."):
            tensors[family.prefix + published] = tensor
        elif pooler:
            tensors[published] = tensor
    write_safetensors(tensors | heads, folder / WEIGHTS)
    write_json(folder / "config.json", bert.config.to_dict() | config)


def write_safetensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write one file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, lambda temporary: save_file(tensors, temporary, metadata={"format": "pt"}))


def head_name(model: nn.Module, task: str) -> str:
    """The published name of a task's head."""
    return model.bert.config.family.classifier if len(model.heads) == 1 else f"classifier.{task}"


def label_fields(task: Task) -> dict:
    """The fields of config.json that tell transformers about a head: its labels, and whether it regresses."""
    if not task.labels:
        return {"problem_type": "regression", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(i): label for i, label in enumerate(task.labels)},
        "label2id": {label: i for i, label in enumerate(task.labels)},
    }


def merge(model: nn.Module) -> nn.Module:
    """Return a copy of a SentenceModel of one task, with inserted modules folded into plain weights.

    The copy computes the same logits in eval mode, and save_model writes it without inserted tensors, so other programs
    can read it. A module can be folded in if it has a method `merged(task)`, which returns the plain module to put in
    its place (and may change it: this is a copy). Raises InputError if the model has several tasks, or other inserted
    modules.
    """
    if len(model.tasks) > 1:
        names = ", ".join(task.name for task in model.tasks)
        raise InputError(f"cannot merge the tasks {names} into one model: each would change its weights in another way")
    inserted = [name for name in model.bert.state_dict() if is_inserted(name)]
    changes_weights = any(hasattr(module, "merged") for module in model.modules())
    if model.bert.config.share_layers and inserted and changes_weights:
        raise InputError(f"cannot merge {plain_name(inserted[0])}: all layers share the weights that it would change")
    merged = copy.deepcopy(model)
    fold_children(merged, model.tasks[0].name)
    rest = [name for name in merged.bert.state_dict() if is_inserted(name)]
    if rest:
        raise InputError(f"cannot merge {plain_name(rest[0])}: there are no plain weights that compute the same")
    return merged


def fold_children(module: nn.Module, task: str) -> None:
    """Replace each module below `module` that can be merged by its plain module."""
    for name, child in list(module.named_children()):
        fold_children(child, task)  # first, because a wrapper can hold another one
        if hasattr(child, "merged"):
            setattr(module, name, child.merged(task))


# Only the parameters that trained: adapters are a hundredth of BERT.


def save_trained(model: nn.Module, path: Path) -> None:
    """Write the parameters that train, under our plain names."""
    write_safetensors(trained_parameters(model), path)


def load_trained(model: nn.Module, path: Path) -> None:
    """Load what save_trained wrote into a model with the same methods attached.

    Raises InputError that lists everything that is missing, unexpected or of the wrong shape.
    """
    tensors, parameters = read_safetensors(path), trained_parameters(model)
    problems = [f"missing {name} {list(p.shape)}" for name, p in parameters.items() if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in parameters]
    for name, p in parameters.items():
        if name in tensors and tensors[name].shape != p.shape:
            problems.append(f"{name} is {list(tensors[name].shape)}, the model's is {list(p.shape)}")
    if problems:
        raise InputError(f"{path} does not match the parameters that train in this model: " + "; ".join(problems))
    for name, p in parameters.items():
        p.data.copy_(tensors[name])


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by their plain names. A pooler with fresh weights is always one of them."""
    return {plain_name(name): p for name, p in model.named_parameters() if p.requires_grad}

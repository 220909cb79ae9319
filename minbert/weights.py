"""Weights in and out: safetensors only, published names <-> ours, a local folder or the model hub."""

import json
import logging
import os
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minbert import shapes
from minbert.config import BertConfig, read_object
from minbert.errors import InputError, first_line
from minbert.shapes import INSERTED

logger = logging.getLogger("minbert")

# Our module <- the published one; {} stands for the number of the layer.
NAMES = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.segment": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.{}.attention.query": "encoder.layer.{}.attention.self.query",
    "layers.{}.attention.key": "encoder.layer.{}.attention.self.key",
    "layers.{}.attention.value": "encoder.layer.{}.attention.self.value",
    "layers.{}.attention.output": "encoder.layer.{}.attention.output.dense",
    "layers.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "layers.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
    "layers.{}.feed_forward.down": "encoder.layer.{}.output.dense",
    "layers.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
    "pooler": "pooler.dense",
}

CONVERT = (
    "Where there are only pickled weights, convert them once, where you trust them: "
    "load them with transformers and call save_pretrained(folder, safe_serialization=True)"
)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FILES = ("config.json", WEIGHTS, INDEX, "model-*.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def plain_name(name: str) -> str:
    """layers.3.attention.base.query.weight -> layers.3.attention.query.weight

    What wraps a module (an adapter around attention) holds it as `base`, and no file tells of that.
    """
    return ".".join(part for part in name.split(".") if part != "base")


def published_name(ours: str) -> str:
    """layers.3.attention.query.weight -> encoder.layer.3.attention.self.query.weight
    layers.3.attention.adapters.rte.up.bias -> inserted.layers.3.attention.adapters.rte.up.bias
    """
    plain = plain_name(ours)
    module, kind = plain.rsplit(".", 1)
    parts, number = module.split("."), ""
    if parts[0] == "layers":
        number, parts[1] = parts[1], "{}"
    published = NAMES.get(".".join(parts))
    return INSERTED + plain if published is None else published.format(number) + "." + kind


def is_inserted(name: str) -> bool:
    """Whether a parameter of a BertModel is no part of BERT."""
    return published_name(name).startswith(INSERTED)


def resolve(name_or_folder) -> Path:
    """The local folder itself, or the cached snapshot of a model hub name, downloaded if need be.

    huggingface_hub does the work: its cache and progress bars, HF_HUB_OFFLINE and HF_ENDPOINT apply.
    """
    name, folder = str(name_or_folder), Path(name_or_folder)
    if name.startswith("~"):
        folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    if folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(f"{name_or_folder} is not a folder with a model")
    from huggingface_hub import snapshot_download  # slow to import, and a local folder does without

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # the library raises its own, the HTTP client's and the system's
        raise InputError(f"{name} is no local folder, and the model hub did not give it: {first_line(error)}") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of model.safetensors, or of the shards its index names, under today's published names.

    The files are mapped, not read: a tensor that nobody uses costs nothing.
    """
    tensors = {}
    for path in weight_files(folder):
        if not path.exists():
            raise InputError(f"{path} does not exist, though {INDEX} names it")
        for name, tensor in read_safetensors(path).items():
            if canonical(name) in tensors:
                raise InputError(f"{path}: {name} is there twice, if under two names")
            tensors[canonical(name)] = tensor
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # the library raises its own, torch's and the system's
        raise InputError(f"{path} cannot be read as safetensors: {first_line(error)}") from None


def weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return shards(folder / INDEX)
    if (folder / "pytorch_model.bin").exists():
        raise InputError(f"{folder} has only pytorch_model.bin, a pickle, which can run any code when read. {CONVERT}")
    raise InputError(f"{folder} has no {WEIGHTS}. {CONVERT}")


def shards(index: Path) -> list[Path]:
    files = read_object(index).get("weight_map")
    names = list(files.values()) if isinstance(files, dict) else [files]
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or not name.endswith(".safetensors"):
            raise InputError(f"{index} is not an index of safetensors files in its own folder: it names {name!r}")
    return [index.with_name(name) for name in sorted(set(names))]


def check(config: BertConfig, tensors: dict[str, Tensor], source: Path) -> None:
    """Raise InputError that lists what is missing, unexpected or of the wrong shape or type."""
    if problems := shapes.problems(config, tensors):
        raise InputError(f"{source}: the weights do not fit: {problems}")


def fill(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy checked tensors into a BertModel, in float32. An absent pooler stays as initialised.

    Raises InputError naming a tensor that holds NaN or infinity.
    """
    if inserted := sum(name.startswith(INSERTED) for name in tensors):
        logger.warning("%s holds a BERT and modules inserted into it: their %d tensors are left out", source, inserted)
    if not shapes.has_pooler(tensors):
        logger.warning("%s has no pooler: it starts from fresh weights", source)
        model.fresh_pooler = True
    for ours, own in model.state_dict().items():
        name = published_name(ours)
        if name in tensors:
            own.copy_(tensors[name])
            # A sum is quick, and finite only if all numbers are; that of huge ones may be infinite all the same.
            if not own.sum().isfinite() and not own.isfinite().all():
                raise InputError(f"{source}: {name} holds NaN or infinity")
        elif not name.startswith("pooler."):
            raise InputError(f"the model has a parameter {ours}, which is none of BERT's")


def canonical(name: str) -> str:
    """Without the prefix of a model with a head, and with today's names of LayerNorm's gamma and beta."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def save_model(model: nn.Module, folder: Path) -> None:
    """Write a SentenceModel as config.json + model.safetensors, under the published names, for transformers too.

    One task: its head is `classifier`, and config.json carries its labels. Several: `classifier.<task>`; these, and the
    head of sentences that are encoded alone, are not of transformers' making, which then sees a BERT without one.
    """
    heads = {}
    for task, head in model.heads.items():
        prefix = head_name(model, task)
        # What it computes with: of R4F's head that is not what is trained.
        heads |= {f"{prefix}.weight": head.weight, f"{prefix}.bias": head.bias}
    if len(model.tasks) == 1 and not model.tasks[0].separate:
        config = {"architectures": ["BertForSequenceClassification"]} | label_fields(model.tasks[0])
    else:
        config = {"architectures": ["BertModel"]}
    save_bert(model.bert, folder, heads, config)


def head_name(model: nn.Module, task: str) -> str:
    return "classifier" if len(model.heads) == 1 else f"classifier.{task}"


def save_bert(bert: nn.Module, folder: Path, more: dict[str, Tensor], config: dict, pooler: bool = True) -> None:
    """Write a BertModel with `more` tensors under their published names, and `config` beside its own fields."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: tensor for name, tensor in bert.state_dict().items() if pooler or not name.startswith("pooler.")}
    names = {name: published_name(name) for name in own}
    tensors = {n if n.startswith(INSERTED) else f"bert.{n}": own[name] for name, n in names.items()} | more
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    write_text(folder / "config.json", json.dumps(bert.config.to_dict() | config, indent=2) + "\n")


def load_model(model: nn.Module, folder: Path) -> None:
    """Put back what save_model wrote, heads and inserted modules too, into a SentenceModel of the same tasks to which
    the same methods were attached.

    Raises InputError naming a tensor that is missing or of the wrong shape.
    """
    tensors = read_tensors(Path(folder))
    for ours, own in model.state_dict().items():
        place, _, name = ours.partition(".")
        if place == "heads":
            task, kind = name.split(".")
            # What computes is saved, whatever is trained.
            name = f"{head_name(model, task)}.{'bias' if kind == 'bias' else 'weight'}"
        else:
            name = published_name(name)
        found = tensors.get(name)
        if found is None or found.shape != own.shape:
            raise InputError(f"{folder}: {name} is {'missing' if found is None else 'of another shape'}")
        own.copy_(found)


def save_trained(model: nn.Module, path: Path) -> None:
    """Write the parameters that train, and no others (but a pooler that no checkpoint has), under our plain names."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in trained(model).items()}
    write_file(path, lambda temporary: save_file(tensors, temporary, metadata={"format": "pt"}))


def load_trained(model: nn.Module, path: Path) -> None:
    """Put back what save_trained wrote, into a model to which the same methods were attached.

    Raises InputError listing all that is missing, unexpected or of the wrong shape.
    """
    found = read_safetensors(path)
    wanted = trained(model)
    problems = [f"missing {name} {list(p.shape)}" for name, p in wanted.items() if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in wanted]
    problems += [
        f"{name} is {list(found[name].shape)}, the model's is {list(p.shape)}"
        for name, p in wanted.items()
        if name in found and found[name].shape != p.shape
    ]
    if problems:
        raise InputError(f"{path} does not fit what this model trains: " + "; ".join(problems))
    for name, p in wanted.items():
        p.data.copy_(found[name])


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    fresh = ("bert.pooler.",) if model.bert.fresh_pooler else ()
    return {plain_name(n): p for n, p in model.named_parameters() if p.requires_grad or n.startswith(fresh)}


def label_fields(task) -> dict:
    """What transformers needs to know of a head: its labels, and whether it regresses."""
    if not task.labels:
        return {"problem_type": "regression", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(i): label for i, label in enumerate(task.labels)},
        "label2id": {label: i for i, label in enumerate(task.labels)},
    }


def write_file(path: Path, write) -> None:
    """`write(temporary path)`, then rename: under the final name there is the whole file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

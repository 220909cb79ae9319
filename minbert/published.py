"""The published names and shapes of tensors, as model.safetensors has them, by the tables of families.py.

Shapes are compared before a model is built: one wrong number in config.json could otherwise take all memory.
"""

from collections.abc import Iterable

from torch import Tensor

from minbert.config import BertConfig
from minbert.families import FAMILIES, Family, Sizes

INSERTED = "inserted."  # the names of modules that a fine-tuning method put into the encoder begin with this
NOT_THE_ENCODER = ("embeddings.position_ids", "classifier.", INSERTED)  # a file of any family may hold these as well
OURS = {module for family in FAMILIES.values() for module in family.modules}  # the modules of a plain BertModel
FLOATS = ("float16", "bfloat16", "float32", "float64")  # integers need a scale, which the file does not tell
MOST_SHARED = 100  # layers with the same parameters: the file does not tell how many there are
MAX_SHOWN = 10  # problems listed in one message; the others are only counted


def plain_name(name: str) -> str:
    """layers.3.attention.base.query.weight -> layers.3.attention.query.weight

    A wrapper (an adapter around the attention) holds the plain module as `base`. Files never show that.
    """
    return ".".join(part for part in name.split(".") if part != "base")


def published_name(name: str, family: Family = FAMILIES["bert"], pooler: str | None = None) -> str:
    """Translate the name of a parameter of BertModel.

    layers.3.attention.query.weight -> encoder.layer.3.attention.self.query.weight
    layers.3.attention.adapters.rte.up.bias -> inserted.layers.3.attention.adapters.rte.up.bias

    In a family with shared layers the parameters of all layers have one name. `pooler` is the pooler's name in a file
    that has it in another place (see pooler_in).
    """
    plain = plain_name(name)
    module, layer, kind = split_name(plain)
    if module not in OURS:
        return INSERTED + plain
    published, _ = family.modules[module]
    if module == "pooler" and pooler:
        published = pooler
    return f"{published.format(layer)}.{kind}"


def split_name(plain: str) -> tuple[str, str, str]:
    """layers.3.attention.query.weight -> (layers.{}.attention.query, 3, weight)"""
    module, kind = plain.rsplit(".", 1)
    parts, layer = module.split("."), ""
    if parts[0] == "layers":
        layer, parts[1] = parts[1], "{}"
    return ".".join(parts), layer, kind


def is_inserted(name: str) -> bool:
    """Whether a parameter of a BertModel is one that a method inserted."""
    return split_name(plain_name(name))[0] not in OURS


def current_name(name: str) -> str:
    """A name in a file -> today's name: without the family's prefix; gamma and beta of a LayerNorm: weight and bias."""
    for family in FAMILIES.values():
        name = name.removeprefix(family.prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def pooler_in(family: Family, tensors: Iterable[str]) -> str | None:
    """The published name of the pooler that a checkpoint holds, or None. Many sentence encoders have none.

    In RoBERTa and DistilBERT a sequence classifier has it in its head. That one counts, if there are two.
    """
    names = list(tensors)
    candidates = [name for name in (family.head_pooler, family.modules["pooler"][0]) if name]
    return next((place for place in candidates if any(name.startswith(f"{place}.") for name in names)), None)


def find_mismatches(config: BertConfig, tensors: dict[str, Tensor]) -> str:
    """List tensors that are missing, unexpected, of the wrong shape or not floating point. "" if all of them fit."""
    family, problems = config.family, []
    per_layer = next(name for module, (name, _) in family.modules.items() if module.startswith("layers"))
    before, number, _ = per_layer.partition("{}")
    layers = config.num_hidden_layers
    if number:
        layers_in_file = {name[len(before) :].split(".")[0] for name in tensors if name.startswith(before)}
        if layers != len(layers_in_file):
            called = family.names.get("num_hidden_layers", "num_hidden_layers")
            problems.append(f"config.json says {called} {layers}, the file has {len(layers_in_file)}")
        layers = min(layers, len(layers_in_file))  # config.json may say a billion
    elif layers > MOST_SHARED:
        problems.append(f"config.json says num_hidden_layers {layers}, more than {MOST_SHARED}")
    if not number:
        layers = 1  # in the file
    pooler = pooler_in(family, tensors)
    expected = expected_sizes(family, layers, pooler)
    for name, sizes in expected.items():
        if name not in tensors:
            problems.append(f"missing {name} {shape_of(config, sizes)}")
    others = (*NOT_THE_ENCODER, *family.other_heads, family.modules["pooler"][0] + ".")
    for name in tensors:
        if name not in expected and not name.startswith(others):
            problems.append(f"unexpected {name}")
    for name, sizes in expected.items():
        if name in tensors and (problem := mismatch(config, name, sizes, tensors[name])):
            problems.append(problem)
    rest = len(problems) - MAX_SHOWN
    return "; ".join(problems[:MAX_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def mismatch(config: BertConfig, name: str, sizes: Sizes, tensor: Tensor) -> str:
    """Say how one tensor differs from config.json, and which field is wrong. "" if it fits."""
    actual, expected = list(tensor.shape), shape_of(config, sizes)
    if actual != expected:
        names = [published_field(config, field) for field in sizes]
        wrong = [field for field, size, said in zip(names, actual, expected) if size != said]
        fields = f" ({', '.join(dict.fromkeys(wrong))})" if len(actual) == len(expected) else ""
        return f"{name} is {actual}, config.json says {expected}{fields}"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return "" if dtype in FLOATS else f"{name} is {dtype}, which is not one of {', '.join(FLOATS)}"


def published_field(config: BertConfig, name: str) -> str:
    """What config.json calls a size."""
    if name == "embedding_width":
        name = "hidden_size" if config.embedding_size is None else "embedding_size"
    return config.family.names.get(name, name)


def expected_sizes(family: Family, layers: int, pooler: str | None) -> dict[str, Sizes]:
    """The published name of every tensor of an encoder -> the fields of BertConfig that give its shape.

    `pooler` is the name of the pooler that the file has, or None.
    """
    expected: dict[str, Sizes] = {}
    for module, (published, sizes) in family.modules.items():
        if module == "pooler":
            names = [pooler] if pooler else []
        else:
            names = [published.format(number) for number in range(layers if "{}" in module else 1)]
        for name in names:
            expected[f"{name}.weight"] = sizes
            if not name.endswith("_embeddings"):
                expected[f"{name}.bias"] = sizes[:1]
    return expected


def shape_of(config: BertConfig, sizes: Sizes) -> list[int]:
    return [getattr(config, field) for field in sizes]

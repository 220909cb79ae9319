"""The published names and shapes of BERT's tensors, as config.json and model.safetensors have them.

Shapes are compared before a model is built: one wrong number in config.json could otherwise take all memory.
"""

from torch import Tensor

from minbert.config import BertConfig

D = "hidden_size"
# Our module -> (the published name, the config.json fields that give the shape of its weight). A bias has the first
# of these sizes. {} stands for the number of the layer.
MODULES = {
    "embeddings.token": ("embeddings.word_embeddings", ("vocab_size", D)),
    "embeddings.position": ("embeddings.position_embeddings", ("max_position_embeddings", D)),
    "embeddings.segment": ("embeddings.token_type_embeddings", ("type_vocab_size", D)),
    "embeddings.norm": ("embeddings.LayerNorm", (D,)),
    "layers.{}.attention.query": ("encoder.layer.{}.attention.self.query", (D, D)),
    "layers.{}.attention.key": ("encoder.layer.{}.attention.self.key", (D, D)),
    "layers.{}.attention.value": ("encoder.layer.{}.attention.self.value", (D, D)),
    "layers.{}.attention.output": ("encoder.layer.{}.attention.output.dense", (D, D)),
    "layers.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm", (D,)),
    "layers.{}.feed_forward.up": ("encoder.layer.{}.intermediate.dense", ("intermediate_size", D)),
    "layers.{}.feed_forward.down": ("encoder.layer.{}.output.dense", (D, "intermediate_size")),
    "layers.{}.feed_forward_norm": ("encoder.layer.{}.output.LayerNorm", (D,)),
    "pooler": ("pooler.dense", (D, D)),
}
INSERTED = "inserted."  # the names of modules that a fine-tuning method put into the encoder begin with this
NOT_THE_ENCODER = ("embeddings.position_ids", "cls.", "classifier.", INSERTED)  # a file may hold these as well
FLOATS = ("float16", "bfloat16", "float32", "float64")  # integers need a scale, which the file does not tell
MAX_SHOWN = 10  # problems listed in one message; the others are only counted


def plain_name(name: str) -> str:
    """layers.3.attention.base.query.weight -> layers.3.attention.query.weight

    A wrapper (an adapter around the attention) holds the plain module as `base`. Files never show that.
    """
    return ".".join(part for part in name.split(".") if part != "base")


def published_name(name: str) -> str:
    """Translate the name of a parameter of BertModel.

    layers.3.attention.query.weight -> encoder.layer.3.attention.self.query.weight
    layers.3.attention.adapters.rte.up.bias -> inserted.layers.3.attention.adapters.rte.up.bias
    """
    plain = plain_name(name)
    module, kind = plain.rsplit(".", 1)
    parts, layer = module.split("."), ""
    if parts[0] == "layers":
        layer, parts[1] = parts[1], "{}"
    published, _ = MODULES.get(".".join(parts), (None, ()))
    return INSERTED + plain if published is None else f"{published.format(layer)}.{kind}"


def is_inserted(name: str) -> bool:
    """Whether a parameter of a BertModel is not one of standard BERT's."""
    return published_name(name).startswith(INSERTED)


def current_name(name: str) -> str:
    """A name in a file -> today's name: without "bert." in front; gamma and beta of a LayerNorm are weight and bias."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def has_pooler(tensors: dict[str, Tensor]) -> bool:
    """Whether a checkpoint holds the pooler. Many sentence encoders do not."""
    return any(name.startswith("pooler.") for name in tensors)


def find_mismatches(config: BertConfig, tensors: dict[str, Tensor]) -> str:
    """List tensors that are missing, unexpected, of the wrong shape or not floating point. "" if all of them fit."""
    layers_in_file = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    layers = config.num_hidden_layers
    # At most as many as the file has, since config.json may say a billion.
    expected = expected_sizes(min(layers, len(layers_in_file)))
    if not has_pooler(tensors):
        expected = {name: sizes for name, sizes in expected.items() if not name.startswith("pooler.")}
    problems = []
    if layers != len(layers_in_file):
        problems.append(f"config.json says num_hidden_layers {layers}, the file has {len(layers_in_file)}")
    for name, sizes in expected.items():
        if name not in tensors:
            problems.append(f"missing {name} {shape_of(config, sizes)}")
    for name in tensors:
        if name not in expected and not name.startswith(NOT_THE_ENCODER):
            problems.append(f"unexpected {name}")
    for name, sizes in expected.items():
        if name in tensors and (problem := mismatch(config, name, sizes, tensors[name])):
            problems.append(problem)
    rest = len(problems) - MAX_SHOWN
    return "; ".join(problems[:MAX_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def mismatch(config: BertConfig, name: str, sizes: tuple[str, ...], tensor: Tensor) -> str:
    """Say how one tensor differs from config.json, and which field is wrong. "" if it fits."""
    actual, expected = list(tensor.shape), shape_of(config, sizes)
    if actual != expected:
        wrong = [field for field, size, said in zip(sizes, actual, expected) if size != said]
        fields = f" ({', '.join(dict.fromkeys(wrong))})" if len(actual) == len(expected) else ""
        return f"{name} is {actual}, config.json says {expected}{fields}"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return "" if dtype in FLOATS else f"{name} is {dtype}, which is not one of {', '.join(FLOATS)}"


def expected_sizes(layers: int) -> dict[str, tuple[str, ...]]:
    """The published name of every tensor of an encoder -> the config.json fields that give its shape."""
    expected = {}
    for module, sizes in MODULES.values():
        for name in [module.format(number) for number in range(layers)] if "{}" in module else [module]:
            expected[f"{name}.weight"] = sizes
            if not name.endswith("_embeddings"):
                expected[f"{name}.bias"] = sizes[:1]
    return expected


def shape_of(config: BertConfig, sizes: tuple[str, ...]) -> list[int]:
    return [getattr(config, field) for field in sizes]

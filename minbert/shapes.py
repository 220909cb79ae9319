"""Do the tensors of a checkpoint have the shapes that its config.json says?

Asked before a model is built: one number in config.json could otherwise take all memory. By published names.
"""

from torch import Tensor

from minbert.config import BertConfig

D = "hidden_size"
LAYERS = "encoder.layer.{}."
# What sizes the weight of each module, as fields of config.json; a bias has the first of them.
SIZES = {
    "embeddings.word_embeddings": ("vocab_size", D),
    "embeddings.position_embeddings": ("max_position_embeddings", D),
    "embeddings.token_type_embeddings": ("type_vocab_size", D),
    "embeddings.LayerNorm": (D,),
    LAYERS + "attention.self.query": (D, D),
    LAYERS + "attention.self.key": (D, D),
    LAYERS + "attention.self.value": (D, D),
    LAYERS + "attention.output.dense": (D, D),
    LAYERS + "attention.output.LayerNorm": (D,),
    LAYERS + "intermediate.dense": ("intermediate_size", D),
    LAYERS + "output.dense": (D, "intermediate_size"),
    LAYERS + "output.LayerNorm": (D,),
    "pooler.dense": (D, D),
}
INSERTED = "inserted."  # begins the name of what a fine-tuning method has put into the encoder
IGNORED = ("embeddings.position_ids", "cls.", "classifier.", INSERTED)  # in a file, but no part of the encoder
FLOATS = ("float16", "bfloat16", "float32", "float64")  # of others, as of int8, the scale is unknown
SHOWN = 10  # problems, before the rest is only counted


def problems(config: BertConfig, tensors: dict[str, Tensor]) -> str:
    """All that is missing, unexpected, of the wrong shape or no floating-point number, as one line; "" if all fits."""
    in_file = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    layers = config.num_hidden_layers
    # No more layers than there can be, however many config.json says.
    wanted = expected(min(layers, len(in_file)))
    if not has_pooler(tensors):
        wanted = {name: sizes for name, sizes in wanted.items() if not name.startswith("pooler.")}
    found = [f"config.json says num_hidden_layers {layers}, the file has {len(in_file)}"] * (layers != len(in_file))
    found += [f"missing {name} {shape(config, sizes)}" for name, sizes in wanted.items() if name not in tensors]
    found += [f"unexpected {name}" for name in tensors if name not in wanted and not name.startswith(IGNORED)]
    for name, sizes in wanted.items():
        if name in tensors:
            found += contradictions(config, name, sizes, tensors[name])
    return "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def contradictions(config: BertConfig, name: str, sizes: tuple[str, ...], tensor: Tensor) -> list[str]:
    found, said = list(tensor.shape), shape(config, sizes)
    if found != said:
        wrong = [field for field, here, there in zip(sizes, found, said) if here != there]
        which = f" ({', '.join(dict.fromkeys(wrong))})" if len(found) == len(said) else ""
        return [f"{name} is {found}, config.json says {said}{which}"]
    dtype = str(tensor.dtype).removeprefix("torch.")
    return [] if dtype in FLOATS else [f"{name} is {dtype}, which is not one of {', '.join(FLOATS)}"]


def expected(layers: int) -> dict[str, tuple[str, ...]]:
    """Every tensor of an encoder -> the fields of config.json that size it."""
    tensors = {}
    for module, sizes in SIZES.items():
        for name in map(module.format, range(layers)) if module.startswith(LAYERS) else [module]:
            tensors[f"{name}.weight"] = sizes
            if not name.endswith("_embeddings"):
                tensors[f"{name}.bias"] = sizes[:1]
    return tensors


def shape(config: BertConfig, sizes: tuple[str, ...]) -> list[int]:
    return [getattr(config, field) for field in sizes]


def has_pooler(tensors: dict[str, Tensor]) -> bool:
    return any(name.startswith("pooler.") for name in tensors)

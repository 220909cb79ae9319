"""Where a model is: a local folder, or a name on the model hub, which is downloaded once."""

import os
from pathlib import Path

from minbert.errors import InputError, first_line

# Of a model on the hub only these files are downloaded: no pickled weights, no other frameworks' weights.
FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def find_model(name_or_folder: str | Path) -> Path:
    """The local folder itself, or the cached snapshot of a model hub name, downloaded if it is not in the cache.

    huggingface_hub does the work: its cache, its progress bars, HF_HUB_OFFLINE and HF_ENDPOINT apply.
    Raises InputError if there is no such folder and the download failed.
    """
    name, folder = str(name_or_folder), Path(name_or_folder)
    if name.startswith("~"):
        folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    # A hub name is "model" or "owner/model". Everything else was meant as a path.
    if folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(f"{name_or_folder} is not a folder with a model")
    from huggingface_hub import snapshot_download  # imported here: it is slow, and a local folder does not need it

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # the library raises its own errors, those of its HTTP client and of the system
        raise InputError(
            f"{name} is not a local folder, and its download from the model hub failed: {first_line(error)}"
        ) from None

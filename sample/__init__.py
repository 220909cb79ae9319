"""The embedded default: a small language (world, speaker, invent), its tasks (make_data) and a tiny BERT (pretrain).

train.py uses it when --model and --data are not given.
"""

from pathlib import Path

MODEL = Path(__file__).parent / "tiny-bert"
DATA = Path(__file__).parent / "data"
RECIPE = {"lr": 3e-4, "epochs": 3}  # for this small model and these short texts


def note(model: str, data: str) -> str:
    """The line that a run prints if its model or its data are the sample's, else ""."""
    if model != str(MODEL) and data != str(DATA):
        return ""
    if data != str(DATA):
        return "No --model: the sample's tiny BERT, which knows a few hundred made-up words, reads your data"
    if model != str(MODEL):
        return "No --data: your model is trained on the sample's small made-up language"
    return (
        "This is the embedded sample: a tiny BERT on a small made-up language (sample/README.md). "
        "The real thing: --model bert-base-uncased --data FOLDER"
    )

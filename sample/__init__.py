"""The embedded default: a small language (world, speaker, invent), its tasks (make_data) and a tiny BERT (pretrain).

What train.py uses where --model and --data are left out; the recipe suits so small a model and such short texts.
"""

from pathlib import Path

MODEL = Path(__file__).parent / "tiny-bert"
DATA = Path(__file__).parent / "data"
RECIPE = {"lr": 3e-4, "epochs": 3}


def note(model: str, data: str) -> str:
    """What a run has to say of its model and data: that one of them, or both, are the sample's."""
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

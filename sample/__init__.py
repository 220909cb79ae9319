"""The embedded default: a small language (world, speaker, invent), its tasks (make_data) and a tiny BERT (pretrain).

What train.py uses where --model and --data are left out; the recipe suits so small a model and such short texts.
"""

from pathlib import Path

MODEL = Path(__file__).parent / "tiny-bert"
DATA = Path(__file__).parent / "data"
RECIPE = {"lr": 3e-4, "epochs": 3}
NOTE = (
    "This is the embedded sample: a tiny BERT on a small made-up language (sample/README.md). "
    "The real thing: --model bert-base-uncased --data FOLDER_WITH_GLUE"
)

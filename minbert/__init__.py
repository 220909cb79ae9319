"""minbert: BERT from scratch. This folder has the model and what it needs. The folders in it train and use the model.

Reading order: config, embeddings, dropout, attention, layers, bert, classifier; weights and tokenizer; task, losses,
optimizer, schedules, metrics. Then data/ and training/. examples/finetune_by_hand.py shows how the pieces fit.
"""

from pathlib import Path
from typing import Any

from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.optimizer import AdamW
from minbert.tokenizer import load_tokenizer

__version__ = "0.2.0"
__all__ = ["AdamW", "BertConfig", "BertModel", "SentenceModel", "load_run", "load_tokenizer"]


def load_run(folder: str | Path) -> Any:
    """The trained model of a run folder, with its tokenizer: a minbert.training.text_model.TextModel."""
    from minbert.training.text_model import load_run  # here, so that importing minbert does not import training/

    return load_run(folder)

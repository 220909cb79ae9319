"""minbert: BERT from scratch. Opening this folder shows the model; what trains it lives in the rooms.

Reading order: config, embeddings, dropout, attention, layers, bert, classifier; weights and tokenizer; task, losses,
optimizer, schedules, metrics. Then data/ and training/. examples/finetune_by_hand.py shows how the pieces fit.
"""

from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.optimizer import AdamW
from minbert.tokenizer import load_tokenizer

__version__ = "0.2.0"
__all__ = ["AdamW", "BertConfig", "BertModel", "SentenceModel", "load_tokenizer"]

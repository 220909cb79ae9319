"""minbert: BERT from scratch, and all that a fine-tuning run needs.

Reading order: config, embeddings, attention, layers, bert, classifier; then tasks, readers, batches,
losses, metrics; then optimizer, schedules, training, runtime, runs.
"""

from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.optimizer import AdamW
from minbert.tokenizer import load_tokenizer

__version__ = "0.1.0"
__all__ = ["AdamW", "BertConfig", "BertModel", "SentenceModel", "load_tokenizer"]

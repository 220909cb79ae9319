"""A model with the sample's architecture and tokenizer, and fresh weights: what is it worth without pretraining?

python -m sample.fresh_weights FOLDER
python -m study sample/study.toml --out studies-out/fresh --methods finetune --model FOLDER
"""

import argparse
from pathlib import Path

import torch

import sample
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.tokenizer import load_tokenizer
from minbert.weights import save_model


def save_fresh(folder: Path) -> None:
    """Save a model whose weights are freshly drawn, as before the first step of a pretraining."""
    torch.manual_seed(0)
    save_model(SentenceModel(BertModel(BertConfig.from_json(sample.MODEL / "config.json")), []), folder)
    load_tokenizer(sample.MODEL).save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to save it")
    save_fresh(parser.parse_args().folder)


if __name__ == "__main__":
    main()

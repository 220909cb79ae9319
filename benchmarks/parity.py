"""A real checkpoint compared with transformers: hidden states, token ids of all GLUE files, and our saved models.

python -m benchmarks.parity --model $MODEL --data $DATA          # needs transformers
"""

import tempfile
from pathlib import Path

import torch
import transformers

from benchmarks.common import make_parser
from benchmarks.peer import peer_logits, peer_model
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import GLUE, TASKS
from minbert.tokenizer import load_tokenizer
from minbert.weights import save_model


def compare_hidden_states(folder: str, data: str) -> None:
    rte = TASKS["rte"]
    batch = Dataset(rte, read_examples(rte, data, "dev"), load_tokenizer(folder), 256).collate(list(range(16)))
    inputs = (batch.input_ids, batch.attention_mask.long(), batch.token_type_ids)
    for dtype in (torch.float32, torch.float64):
        with torch.no_grad():
            ours = BertModel.from_pretrained(folder).to(dtype)(*inputs)
            theirs = transformers.BertModel.from_pretrained(folder).to(dtype)(*inputs, output_hidden_states=True)
        real = batch.attention_mask.unsqueeze(-1)
        gaps = [((a - b) * real).abs().max().item() for a, b in zip(ours.hidden_states, theirs.hidden_states)]
        gaps.append((ours.pooler_output - theirs.pooler_output).abs().max().item())
        print(f"{dtype}: largest difference of hidden states and pooler {max(gaps):.1e}")


def compare_token_ids(folder: str, data: str) -> None:
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as bare:  # a model folder with vocab.txt alone, without tokenizer.json
        for name in ("vocab.txt", "tokenizer_config.json"):
            (Path(bare) / name).write_bytes((Path(folder) / name).read_bytes())
        (Path(bare) / "config.json").write_text("{}")
        tokenizers = {"tokenizer.json": load_tokenizer(folder), "vocab.txt": load_tokenizer(bare)}
    for task in GLUE:
        for split, _ in task.files:
            if not (Path(data) / task.folder / dict(task.files)[split]).exists():
                continue
            rows = read_examples(task, data, split).rows
            texts, pairs = [r.text for r in rows], [r.pair for r in rows] if rows[0].pair is not None else None
            theirs = peer(texts, pairs, truncation=True, max_length=64)
            expected = list(zip(theirs["input_ids"], theirs["token_type_ids"]))
            same = [[tuple(e) for e in t(texts, pairs, 64)] == expected for t in tokenizers.values()]
            print(f"{task.name} {split}: {len(rows)} rows, ids equal {dict(zip(tokenizers, same))}", flush=True)


def compare_saved_models(folder: str, data: str) -> None:
    for name in ("mrpc", "stsb"):
        task = TASKS[name]
        model = SentenceModel(BertModel.from_pretrained(folder), [task]).eval()
        batch = Dataset(task, read_examples(task, data, "dev"), load_tokenizer(folder), 256).collate(list(range(16)))
        with tempfile.TemporaryDirectory() as saved, torch.no_grad():
            save_model(model, Path(saved))
            theirs = peer_model(saved, task.outputs).eval()
            gap = (peer_logits(theirs, batch) - model(batch).logits).abs().max()
            print(f"{name}: our saved model in transformers, largest difference of logits {gap:.1e}")


def main() -> None:
    parser = make_parser(__doc__)
    args = parser.parse_args()
    compare_hidden_states(args.model, args.data)
    compare_saved_models(args.model, args.data)
    compare_token_ids(args.model, args.data)


if __name__ == "__main__":
    main()

"""What a trained model says about new texts.

    python -m minbert.predict RUN "a sentence"                      # RUN is a run folder
    python -m minbert.predict RUN "a sentence" "its pair"
    python -m minbert.predict RUN "a sentence" --task sst5          # of a model of several tasks
    python -m minbert.predict RUN --file IN.txt --out OUT.csv       # one text a line; a tab before its pair
    python -m minbert.predict RUN --file IN.csv --out OUT.csv       # of your own task: a table with its text columns
    python -m minbert.predict RUN < IN.txt

RUN can also be a folder in which transformers saved a sequence classifier. Without --out each answer is a line: the
label, then the probability of each label; or the number of a regression. OUT.csv has the columns id, prediction, and
the probability of each label. The id is the line number, from 1; in a table, its column id, or else the row's number,
from 0. The model computes in float32.

    python -m minbert.predict bert-base-uncased --mask "the cat [MASK] on the mat ."

prints the five most probable tokens for each [MASK], with their probabilities. RUN is then a folder or a hub name of a
BERT, RoBERTa, ALBERT or DistilBERT with its pretrained head. (RoBERTa's <mask> may be written [MASK], too.)
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import torch

from minbert.command_line import Parser, is_utf8, run_program
from minbert.data.own_files import JSON_LINES
from minbert.data.predictions import answers_csv
from minbert.data.readers import read_file
from minbert.errors import InputError, reason
from minbert.files import decode_lines, read_lines, write_text
from minbert.metrics import Answer
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.task import Batch, Task
from minbert.tokenizer import Tokenizer, load_tokenizer
from minbert.training.runtime import choose_device
from minbert.training.text_model import Text, load_run

TABLES = (".csv", *JSON_LINES)  # never one text a line; .tsv can be that
MASK = "[MASK]"  # in the text of the user, for each family


@torch.no_grad()
def fill_masks(
    model: MaskedLanguageModel, tokenizer: Tokenizer, text: str, number: int = 5
) -> list[list[tuple[str, float]]]:
    """The most probable tokens of each mask in the text, with their probabilities, the best first.

    Raises InputError for a text without a mask, or with more tokens than the model has positions.
    """
    if tokenizer.mask_id is None:
        raise InputError(f"the tokenizer has no {tokenizer.kind.mask}: its model is not a masked language model")
    if not is_utf8(text):
        raise InputError("the text is not UTF-8")
    longest = model.bert.config.positions
    (encoding,) = tokenizer([text.replace(MASK, tokenizer.kind.mask)], max_length=longest + 1)
    if len(encoding.input_ids) > longest:
        raise InputError(f"the text has more than {longest} tokens, the most that the model can read")
    ids = torch.tensor([encoding.input_ids])
    masks = ids == tokenizer.mask_id
    if not masks.any():
        raise InputError(f"the text has no {MASK}")
    labels = torch.where(masks, 0, IGNORE)  # the model computes logits where there is a label
    batch = Batch(ids, torch.tensor([encoding.token_type_ids]), torch.ones_like(masks), labels, torch.arange(1), MLM)
    probabilities, best = model(batch.to(next(model.parameters()).device)).logits.softmax(-1).topk(number)  # (M,number)
    return [
        [(tokenizer.backend.decode([token]).strip(), p) for token, p in zip(row.tolist(), values.tolist())]
        for row, values in zip(best, probabilities)
    ]


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit status."""
    return run_program("minbert.predict", partial(predict, argv))


def predict(argv: list[str]) -> None:
    args = make_parser().parse_intermixed_args(argv)  # flags may stand between RUN and the text
    if args.mask is not None:
        print_words(args)
    else:
        print_answers(args)


def make_parser() -> Parser:
    parser = Parser("python -m minbert.predict", description=__doc__)
    parser.add_argument("model", metavar="RUN", help="a run folder, or the folder of a saved model")
    parser.add_argument("text", nargs="*", help="a sentence, or two sentences of a pair")
    parser.add_argument("--task", help="which task of a model of several tasks")
    parser.add_argument("--file", metavar="IN", type=Path, help="a text on each line, a tab before its pair; or a csv")
    parser.add_argument("--out", metavar="OUT", type=Path, help="write the answers to this csv file")
    parser.add_device_flag()
    parser.add_argument("--mask", metavar="TEXT", help="fill in each [MASK] of this text instead")
    return parser


def print_words(args: argparse.Namespace) -> None:
    """Print the best words for each mask, a line for each mask."""
    others = {"a text": args.text, "--task": args.task, "--file": args.file, "--out": args.out}
    for name, value in others.items():
        if value:
            raise InputError(f"{name} has no effect with --mask")
    tokenizer = load_tokenizer(args.model)
    model = MaskedLanguageModel.from_pretrained(args.model).to(choose_device(args.device))
    model.bert.config.check_input(len(tokenizer) - 1, max_length=1, texts=1)
    for words in fill_masks(model, tokenizer, args.mask):
        print("  ".join(f"{word} {probability:.3f}" for word, probability in words))


def print_answers(args: argparse.Namespace) -> None:
    """Print the answers, or write them to --out."""
    if args.out is not None and args.out.exists():
        raise InputError(f"--out {args.out} exists: delete it or name another")
    if args.out is not None and not os.access(args.out.parent, os.W_OK | os.X_OK):
        raise InputError(
            f"--out {args.out} cannot be written: {args.out.parent} is not a folder that can be written to"
        )
    model = load_run(args.model).to(choose_device(args.device))
    ids, texts = read_texts(args, model.choose_task(args.task))
    answers = model.predict(texts, args.task)
    if args.out is None:
        for answer in answers:
            print(format_answer(answer))
        return
    try:
        write_text(args.out, answers_csv(ids, answers))
    except OSError as error:
        raise InputError(f"--out {args.out} cannot be written: {reason(error)}") from None
    print(f"{len(answers)} answers: {args.out}")


def read_texts(args: argparse.Namespace, task: Task) -> tuple[list[str], list[Text]]:
    """The ids and texts of the command line, of --file, or of standard input. Raises InputError."""
    if args.text and args.file:
        raise InputError("--file has no effect when the command line has a text")
    if len(args.text) > 2:
        raise InputError(f"{len(args.text)} texts: give one sentence or a pair, and quote each sentence")
    if args.text:
        if not all(map(is_utf8, args.text)):
            raise InputError("the text is not UTF-8")
        return ["1"], [parse_line("\t".join(args.text), "the command line")]
    if args.file and args.file.suffix.lower() in (*TABLES, *([".tsv"] if task.own else [])):
        return read_table(args.file, task)
    name = args.file or "standard input"
    lines = read_lines(args.file) if args.file else decode_lines(sys.stdin.buffer, name)
    texts = {str(number): parse_line(line, f"{name}:{number}") for number, line in lines}
    return list(texts), list(texts.values())


def read_table(path: Path, task: Task) -> tuple[list[str], list[Text]]:
    """The ids and texts of a table with the text columns of a user's own task. Raises InputError."""
    if not task.own:
        raise InputError(f"--file {path}: {task.name} takes a file with one text a line, a tab before its pair")
    if not path.exists():
        raise InputError(f"{path} does not exist")
    rows = read_file(task, path, "test").rows
    return [row.id for row in rows], [row.text if row.pair is None else (row.text, row.pair) for row in rows]


def parse_line(line: str, place: str) -> Text:
    """ "a" -> "a"; "a<tab>b" -> ("a", "b"). Raises InputError for more tabs, and for an empty sentence."""
    sentences = line.split("\t")
    if len(sentences) > 2:
        raise InputError(
            f"{place} has {len(sentences) - 1} tabs: a line is one sentence, or two with a tab between them"
        )
    if not all(sentence.strip() for sentence in sentences):
        raise InputError(f"{place} has an empty sentence")
    return sentences[0] if len(sentences) == 1 else (sentences[0], sentences[1])


def format_answer(answer: Answer) -> str:
    """entailment  entailment 0.776  not_entailment 0.224; 3.4210 for a regression"""
    if not answer.probabilities:
        return f"{answer.prediction:.4f}"
    return "  ".join([str(answer.prediction), *(f"{label} {p:.3f}" for label, p in answer.probabilities.items())])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

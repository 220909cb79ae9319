"""Text, or a pair of texts -> token ids and segments. The `tokenizers` library does the work."""

import json
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from minbert.errors import InputError
from minbert.weights import resolve, write_file

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Encoding(NamedTuple):
    input_ids: list[int]
    token_type_ids: list[int]  # 0 for [CLS] a [SEP], 1 for b [SEP]


class Tokenizer:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP]; the longer text is cut first."""

    def __init__(self, backend: Backend):
        self.backend = backend
        # A tokenizer.json may bring truncation and padding of its own: both off, ours is set at each call.
        backend.no_padding()
        backend.no_truncation()
        self.pad_id = backend.token_to_id("[PAD]") or 0

    def __len__(self) -> int:
        """One more than the largest id: what an embedding must have room for."""
        return max(self.backend.get_vocab().values()) + 1

    def __call__(self, texts: list[str], pairs: list[str] | None = None, max_length: int = 512) -> list[Encoding]:
        """Encode all texts, each with its pair if there are pairs, to at most `max_length` tokens."""
        self.backend.enable_truncation(max_length, strategy="longest_first")
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        return [Encoding(e.ids, e.type_ids) for e in self.backend.encode_batch(inputs)]

    def save(self, folder: Path) -> None:
        self.backend.no_truncation()
        write_file(folder / "tokenizer.json", lambda path: self.backend.save(str(path)))


def load_tokenizer(name_or_folder) -> Tokenizer:
    """From tokenizer.json, or from vocab.txt with the lower-casing of tokenizer_config.json (default: on).

    Raises InputError if neither is there or a file is broken.
    """
    folder = resolve(name_or_folder)
    try:
        if (folder / "tokenizer.json").exists():
            return Tokenizer(Backend.from_file(str(folder / "tokenizer.json")))
        if (folder / "vocab.txt").exists():
            return Tokenizer(word_piece(folder))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"the tokenizer in {folder} cannot be read: {error}") from None
    raise InputError(f"{folder} has neither tokenizer.json nor vocab.txt")


def word_piece(folder: Path) -> Backend:
    """BERT's WordPiece tokenizer around a bare vocab.txt (one token a line; its line number is its id)."""
    config = {}
    if (folder / "tokenizer_config.json").exists():
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("tokenizer_config.json must hold one JSON object")
    with (folder / "vocab.txt").open(encoding="utf-8", newline="\n") as file:
        vocabulary = {line.rstrip("\r\n"): number for number, line in enumerate(file)}
    missing = [token for token in SPECIAL[:4] if token not in vocabulary]
    if missing:
        raise ValueError(f"vocab.txt lacks {', '.join(missing)}")
    return dress(
        Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)),
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )


def dress(backend: Backend, **casing) -> Backend:
    """What BERT puts around WordPiece: its way to clean and split text, and [CLS] a [SEP] b [SEP]."""
    backend.normalizer = normalizers.BertNormalizer(**casing)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([token for token in SPECIAL if backend.token_to_id(token) is not None])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    backend.decoder = decoders.WordPiece()
    return backend

"""Text, or a pair of texts -> token ids and segments. The `tokenizers` library does the work."""

from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from minbert.config import read_object
from minbert.errors import InputError, first_line
from minbert.readers import read_lines
from minbert.weights import resolve, write_file

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Encoding(NamedTuple):
    input_ids: list[int]
    token_type_ids: list[int]  # 0 for [CLS] a [SEP], 1 for b [SEP]


class Tokenizer:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP]; the longer text is cut first."""

    def __init__(self, backend: Backend):
        self.backend = backend
        # What a tokenizer.json says of truncation, padding and the frame, or leaves out, does not count: ours is set.
        backend.no_padding()
        backend.no_truncation()
        frame(backend)
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

    Raises InputError if neither is there, a file is broken, or a token that BERT needs is not there.
    """
    folder = resolve(name_or_folder)
    path = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).exists()), None)
    if path is None:
        raise InputError(f"{folder} has neither tokenizer.json nor vocab.txt")
    try:
        backend = Backend.from_file(str(path)) if path.suffix == ".json" else word_piece(folder)
    except InputError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None
    check(backend, path)
    return Tokenizer(backend)


def check(backend: Backend, path: Path) -> None:
    """Refuse a tokenizer without the tokens that encoding needs. [PAD] is none of them: what is padded is masked."""
    missing = [token for token in ("[CLS]", "[SEP]") if backend.token_to_id(token) is None]
    unknown = getattr(backend.model, "unk_token", None)
    if unknown is not None and backend.model.token_to_id(unknown) is None:
        missing.append(unknown)
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: it is no tokenizer of a BERT")


def word_piece(folder: Path) -> Backend:
    """BERT's WordPiece tokenizer around a bare vocab.txt (one token a line; its line number is its id)."""
    path = folder / "tokenizer_config.json"
    config = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    config |= read_object(path) if path.exists() else {}
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if not isinstance(config[name], bool) and (name, config[name]) != ("strip_accents", None):
            raise InputError(f"{path}: {name} must be true or false, not {config[name]!r}")
    vocabulary = {line: number - 1 for number, line in read_lines(folder / "vocab.txt")}
    missing = [token for token in SPECIAL[:4] if token not in vocabulary]
    if missing:
        raise InputError(f"{folder / 'vocab.txt'} lacks {', '.join(missing)}")
    return dress(
        Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)),
        lowercase=config["do_lower_case"],
        strip_accents=config["strip_accents"],
        handle_chinese_chars=config["tokenize_chinese_chars"],
    )


def dress(backend: Backend, **casing) -> Backend:
    """What BERT puts around WordPiece: its way to clean and split text, and [CLS] a [SEP] b [SEP]."""
    backend.normalizer = normalizers.BertNormalizer(**casing)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([token for token in SPECIAL if backend.token_to_id(token) is not None])
    frame(backend)
    backend.decoder = decoders.WordPiece()
    return backend


def frame(backend: Backend) -> None:
    """Make [CLS] a [SEP] b [SEP] of texts, with their segments."""
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )

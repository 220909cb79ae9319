"""Text, or a pair of texts -> token ids and segments. The `tokenizers` library does the work."""

from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from minbert.errors import InputError, first_line
from minbert.files import read_json_object, read_lines, write_file
from minbert.hub import find_model

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Encoding(NamedTuple):
    """One tokenized input."""

    input_ids: list[int]
    token_type_ids: list[int]  # 0 for [CLS] a [SEP], 1 for b [SEP]


class Tokenizer:
    """Makes [CLS] a [SEP], or [CLS] a [SEP] b [SEP]. The longer text of a pair is cut first."""

    def __init__(self, backend: Backend):
        self.backend = backend
        # A tokenizer.json can ask for truncation, padding and another template, or for none. BERT's own are used.
        backend.no_padding()
        backend.no_truncation()
        set_template(backend)
        self.pad_id = backend.token_to_id("[PAD]") or 0

    def __len__(self) -> int:
        """The largest id plus one: the rows that an embedding table needs."""
        return max(self.backend.get_vocab().values()) + 1

    def __call__(self, texts: list[str], pairs: list[str] | None = None, max_length: int = 512) -> list[Encoding]:
        """Encode all texts, each with its pair if there are pairs, to at most `max_length` tokens."""
        self.backend.enable_truncation(max_length, strategy="longest_first")
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        return [Encoding(e.ids, e.type_ids) for e in self.backend.encode_batch(inputs)]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which transformers reads too."""
        self.backend.no_truncation()
        write_file(folder / "tokenizer.json", lambda path: self.backend.save(str(path)))


def load_tokenizer(name_or_folder: str | Path) -> Tokenizer:
    """Read tokenizer.json, or vocab.txt with the lower-casing that tokenizer_config.json gives (default: on).

    Raises InputError if neither file exists, a file is broken, or a token that BERT needs is missing.
    """
    folder = find_model(name_or_folder)
    path = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).exists()), None)
    if path is None:
        raise InputError(f"{folder} has neither tokenizer.json nor vocab.txt")
    try:
        backend = Backend.from_file(str(path)) if path.suffix == ".json" else word_piece(folder)
    except InputError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None
    check_special_tokens(backend, path)
    return Tokenizer(backend)


def check_special_tokens(backend: Backend, path: Path) -> None:
    """Raise InputError if a token that encoding needs is missing. [PAD] is not needed: padding is masked."""
    missing = [token for token in ("[CLS]", "[SEP]") if backend.token_to_id(token) is None]
    unknown = getattr(backend.model, "unk_token", None)
    if unknown is not None and backend.model.token_to_id(unknown) is None:
        missing.append(unknown)
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: it is not the tokenizer of a BERT")


def word_piece(folder: Path) -> Backend:
    """Build BERT's WordPiece tokenizer from vocab.txt: one token a line, and its line number, from 0, is its id."""
    path = folder / "tokenizer_config.json"
    config = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    if path.exists():
        config |= read_json_object(path)
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if not isinstance(config[name], bool) and (name, config[name]) != ("strip_accents", None):
            raise InputError(f"{path}: {name} must be true or false, not {config[name]!r}")
    vocabulary = {token: number - 1 for number, token in read_lines(folder / "vocab.txt")}
    missing = [token for token in SPECIAL_TOKENS[:4] if token not in vocabulary]
    if missing:
        raise InputError(f"{folder / 'vocab.txt'} lacks {', '.join(missing)}")
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    return add_bert_pipeline(
        backend,
        lowercase=config["do_lower_case"],
        strip_accents=config["strip_accents"],
        handle_chinese_chars=config["tokenize_chinese_chars"],
    )


def add_bert_pipeline(backend: Backend, **normalizer) -> Backend:
    """Put BERT's other stages around a WordPiece model: normalizer, pre-tokenizer, template and decoder."""
    backend.normalizer = normalizers.BertNormalizer(**normalizer)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([token for token in SPECIAL_TOKENS if backend.token_to_id(token) is not None])
    set_template(backend)
    backend.decoder = decoders.WordPiece()
    return backend


def set_template(backend: Backend) -> None:
    """Frame the texts as [CLS] a [SEP] b [SEP], with segment 1 for b [SEP]."""
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )

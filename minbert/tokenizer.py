"""Text, or a pair of texts -> token ids and segments. The `tokenizers` library does the work.

What the families differ in is in families.py: the type of the tokenizer, its special tokens, and their places.
"""

from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from minbert.errors import InputError, first_line
from minbert.families import BYTE_LEVEL, FAMILIES, WORD_PIECE, TokenizerKind
from minbert.files import check_regular_file, read_json_object, read_lines, write_file, write_json
from minbert.hub import find_model
from minbert.time_limit import call_within
from minbert.tokenizer_file import check_growth, check_tokens

SPECIAL_TOKENS = WORD_PIECE.special_tokens
CONFIG = "tokenizer_config.json"
# The time limit for encoding is SECONDS, and one second more for each SLOWEST characters. A machine that is ten times
# as slow as a laptop of 2020 stays below it.
SECONDS, SLOWEST = 60.0, 20_000


class Encoding(NamedTuple):
    """One tokenized input."""

    input_ids: list[int]
    token_type_ids: list[int]  # 0 for [CLS] a [SEP], 1 for b [SEP]; all 0 for RoBERTa


class Tokenizer:
    """Makes [CLS] a [SEP], or [CLS] a [SEP] b [SEP], or what the family has instead.

    The longer text of a pair is cut first.
    """

    def __init__(self, backend: Backend, kind: TokenizerKind | None = None):
        self.backend = backend
        self.kind = kind or closest_kind(backend)
        # A tokenizer.json can ask for truncation, padding and another template, or for none. The family's are used.
        backend.no_padding()
        backend.no_truncation()
        set_template(backend, self.kind)
        self.pad_id = backend.token_to_id(self.kind.pad) or 0
        self.mask_id = backend.token_to_id(self.kind.mask)  # None if the vocabulary has no such token

    @property
    def special_ids(self) -> list[int]:
        """The ids that are not part of a text, sorted. Masked language modelling neither masks nor predicts them."""
        named = [self.backend.token_to_id(token) for token in self.kind.special_tokens]
        added = [number for number, token in self.backend.get_added_tokens_decoder().items() if token.special]
        return sorted({number for number in named if number is not None} | set(added))

    def __len__(self) -> int:
        """The largest id plus one: the rows that an embedding table needs."""
        return max(self.backend.get_vocab().values()) + 1

    def __call__(self, texts: list[str], pairs: list[str] | None = None, max_length: int = 512) -> list[Encoding]:
        """Encode all texts, each with its pair if there are pairs, to at most `max_length` tokens.

        Raises InputError if that takes very long.
        """
        self.backend.enable_truncation(max_length, strategy="longest_first")
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        limit = SECONDS + sum(map(len, [*texts, *(pairs or ())])) / SLOWEST
        try:
            encodings = call_within(limit, lambda: self.backend.encode_batch(inputs))
        except TimeoutError:
            raise InputError(
                f"the tokenizer has not encoded {len(inputs)} texts in {limit:.0f} seconds: a text is too long for it, "
                "or a pattern in its tokenizer.json takes very long"
            ) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of the library's Rust code; it has no public name
                raise
            raise InputError(f"the tokenizer cannot encode a text: {first_line(error)}") from None
        return [Encoding(e.ids, e.type_ids) for e in encodings]

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Write tokenizer.json, and the tokenizer_config.json without which transformers would change it.

        `max_length` is the length to which transformers cuts texts, if it is asked to cut them.

        transformers' class of a family (BertTokenizer) keeps only the vocabulary of a tokenizer.json, and lower-cases
        by default. Its general class takes the file as it is, but must be told the names of the special tokens.
        """
        self.backend.no_truncation()
        write_file(folder / "tokenizer.json", lambda path: self.backend.save(str(path)))
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        for name, token in zip(names, self.kind.special_tokens, strict=True):
            # transformers would add a token that the vocabulary lacks, with an id beyond the embedding table.
            if self.backend.token_to_id(token) is not None:
                config[name] = token
        if max_length is not None:
            config["model_max_length"] = max_length
        segments = ["token_type_ids"] if self.kind.segments else []
        write_json(folder / CONFIG, config | {"model_input_names": ["input_ids", *segments, "attention_mask"]})


def load_tokenizer(name_or_folder: str | Path) -> Tokenizer:
    """Read tokenizer.json, or vocab.txt (see `word_piece`), or vocab.json with merges.txt (see `byte_level`).

    Raises InputError if there is none, a file is broken, or the tokenizer does not fit (see `check_kind`).
    """
    folder = find_model(name_or_folder)
    readers = {
        "tokenizer.json": from_json,
        "vocab.txt": word_piece,
        "vocab.json": byte_level,
    }
    name = next((name for name in readers if (folder / name).exists()), None)
    if name is None:
        raise InputError(f"{folder} has neither tokenizer.json nor vocab.txt nor vocab.json with merges.txt")
    for part in (name, "merges.txt"):
        check_regular_file(folder / part)
    try:
        backend = readers[name](folder)
    except InputError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{folder / name} cannot be read: {first_line(error)}") from None
    return Tokenizer(backend, check_kind(backend, folder / name))


def from_json(folder: Path) -> Backend:
    """Read tokenizer.json. Raises InputError for tokens or steps that tokenizer_file.py refuses."""
    path = folder / "tokenizer.json"
    backend = Backend.from_file(str(path))
    values = read_json_object(path)
    check_tokens(values, path)
    check_growth(backend, path)
    return backend


def closest_kind(backend: Backend) -> TokenizerKind:
    """The kind that has the most special tokens in the vocabulary. Of several equal kinds, the first family's."""
    kinds = [family.tokenizer for family in FAMILIES.values()]
    return max(kinds, key=lambda kind: sum(backend.token_to_id(token) is not None for token in kind.special_tokens))


def check_kind(backend: Backend, path: Path) -> TokenizerKind:
    """The kind of the model_type in the folder's config.json; without that the closest. `path` is for messages.

    Raises InputError if the tokenizer is of another type, lacks a token that encoding needs, or has another padding id
    where the model depends on it. Elsewhere padding is masked, and [PAD] may be missing.
    """
    config, actual = path.with_name("config.json"), type(backend.model).__name__
    values = read_json_object(config) if config.exists() else {"model_type": None}
    model_type = values.get("model_type", "bert")  # old files do not have it
    known = model_type in list(FAMILIES)
    kind = FAMILIES[model_type].tokenizer if known else closest_kind(backend)
    if known and actual != kind.model:
        raise InputError(f"{path} is a {actual} tokenizer, a model of type {model_type} has a {kind.model} tokenizer")
    needed = [kind.cls, kind.sep] + ([kind.pad] if kind.pad_is_needed else [])
    missing = [token for token in needed if backend.token_to_id(token) is None]
    try:
        backend.model.tokenize("\U0010ffff")  # a character that no text has
    except Exception:  # the vocabulary lacks the token for unknown pieces
        missing.append(getattr(backend.model, "unk_token", kind.unknown))
    if missing:
        family = model_type if known else f"a family with a {kind.model} tokenizer"
        raise InputError(f"{path} lacks {', '.join(missing)}: it is not a tokenizer of {family}")
    pad_id = backend.token_to_id(kind.pad)
    expected = values.get("pad_token_id")
    if expected is None and known:
        expected = FAMILIES[model_type].absent.get("pad_token_id")
    if kind.pad_is_needed and expected not in (None, pad_id):
        raise InputError(f"{path}: {kind.pad} has id {pad_id}, config.json has pad_token_id {expected}")
    return kind


def word_piece(folder: Path) -> Backend:
    """Build BERT's WordPiece tokenizer from vocab.txt: one token a line, and its line number, from 0, is its id.

    Lower-casing and two other switches are in tokenizer_config.json.
    """
    switches = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    switches = read_switches(folder / CONFIG, switches)
    vocabulary = read_vocabulary(folder / "vocab.txt")
    missing = [token for token in SPECIAL_TOKENS[:4] if token not in vocabulary]
    if missing:
        raise InputError(f"{folder / 'vocab.txt'} lacks {', '.join(missing)}")
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    return add_bert_pipeline(
        backend,
        lowercase=switches["do_lower_case"],
        strip_accents=switches["strip_accents"],
        handle_chinese_chars=switches["tokenize_chinese_chars"],
    )


def read_vocabulary(path: Path) -> dict[str, int]:
    """Token -> id. Raises InputError for a token that appears twice: only one of its ids would ever be used."""
    ids: dict[str, int] = {}
    for number, token in read_lines(path):
        if token in ids:
            raise InputError(f"{path}:{number}: the token {token!r} appears twice, first in line {ids[token] + 1}")
        ids[token] = number - 1
    return ids


def byte_level(folder: Path) -> Backend:
    """Build RoBERTa's byte-level BPE from vocab.json, token -> id, and merges.txt, two pieces a line.

    tokenizer_config.json can ask for a space before the first word.
    """
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not merges.exists():
        raise InputError(f"{folder} has vocab.json, but not merges.txt")
    switches = read_switches(folder / CONFIG, {"add_prefix_space": False})
    backend = Backend(models.BPE.from_file(str(vocabulary), str(merges)))
    check_tokens({"model": {"vocab": read_json_object(vocabulary)}}, vocabulary)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=switches["add_prefix_space"])
    backend.decoder = decoders.ByteLevel()
    add_special_tokens(backend, BYTE_LEVEL)
    return backend


def read_switches(path: Path, defaults: dict[str, bool | None]) -> dict[str, bool | None]:
    """The switches that tokenizer_config.json sets, if it exists. None stands where it is the default."""
    values = defaults | (read_json_object(path) if path.exists() else {})
    for name, default in defaults.items():
        if not isinstance(values[name], bool) and (values[name] is not None or default is not None):
            raise InputError(f"{path}: {name} must be true or false, not {values[name]!r}")
    return values


def add_bert_pipeline(backend: Backend, **normalizer) -> Backend:
    """Put BERT's other stages around a WordPiece model: normalizer, pre-tokenizer, template and decoder."""
    backend.normalizer = normalizers.BertNormalizer(**normalizer)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    add_special_tokens(backend, WORD_PIECE)
    set_template(backend, WORD_PIECE)
    backend.decoder = decoders.WordPiece()
    return backend


def add_special_tokens(backend: Backend, kind: TokenizerKind) -> None:
    """Keep the special tokens that the vocabulary has whole in texts. RoBERTa's <mask> takes the spaces before it."""
    present = [token for token in kind.special_tokens if backend.token_to_id(token) is not None]
    backend.add_special_tokens(
        [AddedToken(token, lstrip=token == BYTE_LEVEL.mask, normalized=False) for token in present]
    )


def set_template(backend: Backend, kind: TokenizerKind) -> None:
    """Frame the texts with the special tokens, and set the segments."""
    backend.post_processor = processors.TemplateProcessing(
        single=kind.single,
        pair=kind.pair,
        special_tokens=[(token, backend.token_to_id(token)) for token in (kind.cls, kind.sep)],
    )

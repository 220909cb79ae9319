"""Write tests/support/references/tokenizers/: a small tokenizer of each type, and the ids that transformers makes.

    pip install transformers && PYTHONPATH=. python tests/support/make_tokenizers.py

texts.json has the texts. A folder for each tokenizer holds the files of a published model and ids.json: the ids of
transformers' own class for the family. The vocabularies are trained here on the texts and on the sample's language.
The script also saves each tokenizer with minbert, and compares the ids of transformers' AutoTokenizer for the result.
"""

import itertools
import json
import random
import tempfile
from functools import partial
from pathlib import Path

import transformers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, DistilBertTokenizer

from minbert import load_tokenizer
from minbert.families import BYTE_LEVEL, UNIGRAM, WORD_PIECE
from sample.corpus import pairs

FOLDER = Path(__file__).parent / "references" / "tokenizers"
LENGTHS = (7, 16)  # to which texts and pairs are cut

SENTENCES = """
The quick brown fox jumps over the lazy dog.
It isn't what he's said; they'll've gone, I'd've thought — don't you?
Café naïve façade, coöperate: résumé; ÉCOLE
Der Fußgänger überquert die Straße, während ÄÖÜ große Bären träumen.
El niño pequeño comió una piña en el jardín. ¿Por qué? ¡Vámonos!
Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.
Pchnąć w tę łódź jeża lub ośm skrzyń fig.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Árvíztűrő tükörfúrógép
Pijamalı hasta yağız şoföre çabucak güvendi. İSTANBUL ılık
Съешь же ещё этих мягких французских булок, да выпей чаю.
Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὀδυσσεύς
כל אדם נולד בן חורין ושווה בערכו ובזכויותיו
صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت
همه افراد بشر آزاد به دنیا می‌آیند
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা নিয়ে
மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน
ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ
လူတိုင်းသည် တူညီ လွတ်လပ်သော
យើងទាំងអស់គ្នា កើតមកមានសេរីភាព
ყველა ადამიანი იბადება თავისუფალი
Բոլոր մարդիկ ծնվում են ազատ
ሁሉም ሰዎች ነጻ ሆነው ተወልደዋል
人人生而自由,在尊严和权利上一律平等。
人人生而自由,在尊嚴和權利上一律平等。
すべての人間は、生まれながらにして自由であり、カタカナ ｶﾀｶﾅ
모든 인간은 태어날 때부터 자유로우며 한글
Tất cả mọi người sinh ra đều được tự do và bình đẳng
Mọi ngườï ẻ ể ễ ộ ợ ử ữ
Lahat ng tao'y isinilang na malaya at pantay-pantay
Watu wote wamezaliwa huru, hadhi na haki zao ni sawa.
Kaikki ihmiset syntyvät vapaina ja tasavertaisina
Ǧǵȟ ʻōlelo Hawaiʻi ŋ ɓ ɗ
ᐃᓄᐃᑦ ᏣᎳᎩ ⵜⴰⵎⴰⵣⵉⵖⵜ ᚠᚢᚦ
emoji 😀😃 👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ☃ 🏴󠁧󠁢󠁳󠁣󠁴󠁿
😀
1️⃣ 2️⃣ #️⃣ ☎️ ✈
math ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α∧¬β ≠ ∑ ∞ √2 ≤ 10⁶ H₂O ½ ①
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕎𝕖𝕚𝕣𝕕 𝓣𝓮𝔁𝓽 ﬁ ﬂ ﬃ ǅ ĳ
ＡＢＣ　ｄｅｆ１２３ ﷽ ㌔ Å K Ω
ℍ𝒶𝓁𝒻 𐍈𐌰𐌽 𒀀 𓀀 𠀀𪜶 㐀䶵
combining: e\u0301 a\u0308\u0323 o\u0302\u0301 n\u0303 \u0301 start
zalgo Z̸̢a̴͓l̵̰g̷̩o̶
precomposed é and e\u0301 differ
$1,234.56 is 12% of €10_000 — or £9.99? #tag @user user@example.com
https://example.com/a/b?c=d&e=f%20g#h C:\\Users\\x ~/file.tar.gz
def f(x): return {"a": [1, 2.0, -3e-10], 'b': None}  # code
a\tb\tc  d   e    f     g
 leading space
  two leading spaces
trailing space\x20
trailing spaces  \x20
''single'' and ``double`` quotes "plain" “curly” ‘x’ «y» „z‟
... !!! ??? ?!?! ;;;; ---- ____ ==== //// \\\\\\\\ ||||
a.b,c;d:e!f?g(h)i[j]k{l}m<n>o/p\\q|r
don't DON'T Don’t I'm we're they've 'tis 'S 's 'll
lower UPPER MiXeD cAsE ß ẞ ŞŠŚ ǰ
ſ ı İ i̇ ŉ Ω Å
[CLS] [SEP] [PAD] [UNK] [MASK]
<s> </s> <pad> <unk> <mask>
the cat [MASK] on the mat .
the cat <mask> on the mat .
the cat[MASK]on the mat.
the cat<mask>on the mat.
  [MASK]  <mask>  end
[mask] [cls] [Mask] [ MASK ] <MASK> < mask > <S>
[CLS]a[SEP]b[PAD]c[UNK]d
</s></s><s><s>x<pad>y
[CLS
▁ already ▁marked Ġ Ċ ##piece ## # @@
<0x41> \\u0041 &amp; &#65; %41
zero\u200bwidth\u200cnon\u200djoin\u2060er\ufeffmark
no\u00a0break thin\u2009space ideographic\u3000space \u2028line\u2029paragraph
soft\u00adhyphen \u061c\u200e\u200fdirection \u202aembed\u202c
\u0000null\u0000 and \u0001\u0002\u0007\u0008bell
\u001b[31mred\u001b[0m \u007f delete \u0080\u0085\u009f
\ufffd replacement \uffff \U0010ffff noncharacters \ue000 private
\r carriage\rreturn \x0b vertical \x0c form
\u0378 \u2fe0 unassigned \U000e0001 tag
"""


# Not in the table above: lines with line feeds, texts that are only space, and long words. WordPiece gives up on words
# of more than 100 characters.
OTHERS = ["", " ", "\n", "\t\n ", "a\nb\n", "a", "é", "the " * 30, "a" * 99, "a" * 100, "a" * 101, "é" * 60, "é" * 101]
OTHERS += ["ab" * 60, "unbelievably" * 5, "0123456789" * 11, "猫" * 40, "👍" * 12, "[MASK]" * 9, "<mask>" * 9, "-" * 50]
SCRIPTS = ["\0\x1f", " ~", "\x7f\xff", "\u0100\u024f", "\u0300\u036f", "\u0370\u03ff", "\u0400\u04ff", "\u0590\u06ff"]
SCRIPTS += ["\u0900\u0dff", "\u0e00\u0eff", "\u1e00\u1fff", "\u2000\u206f", "\u2070\u2bff", "\u3000\u30ff"]
SCRIPTS += [
    "\u4e00\u9fff",
    "\uac00\ud7a3",
    "\ue000\uf8ff",
    "\ufb00\uffff",
    "\U0001d400\U0001d7ff",
    "\U0001f300\U0001faff",
]
SCRIPTS += ["\U00020000\U0002ffff", "\U000e0000\U0010ffff"]


def make_texts() -> list[str]:
    """The texts above, and random ones: of one script each, and of all scripts and words mixed."""
    rng, texts = random.Random(0), SENTENCES.strip("\n").split("\n") + OTHERS

    def draw(script: str) -> str:
        return chr(rng.randint(ord(script[0]), ord(script[-1])))

    for script in SCRIPTS:
        for size in (3, 9):
            texts.append("".join(draw(script) + rng.choice(["", "", " "]) for _ in range(size)))
    words = [word for text in texts[:40] for word in text.split()]
    words += [*WORD_PIECE.special_tokens, *BYTE_LEVEL.special_tokens]
    for size in [rng.randint(1, 12) for _ in range(60)]:
        parts = [
            rng.choice([rng.choice(words), rng.choice(words).upper(), draw(rng.choice(SCRIPTS))]) for _ in range(size)
        ]
        texts.append("".join(part + rng.choice(["", " ", " ", "  "]) for part in parts))
    return list(dict.fromkeys(texts))


def train(model, trainer, normalizer, splitter, texts: list[str]) -> Tokenizer:
    """Train on the texts and on a little of the sample's language."""
    backend = Tokenizer(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = splitter
    language = [text for pair in itertools.islice(pairs("train"), 300) for text in pair if text]
    backend.train_from_iterator(texts + language, trainer)
    return backend


def make_word_piece(folder: Path, texts: list[str], tokenizer_class, lowercase: bool, size: int):
    """Write vocab.txt and tokenizer_config.json. Returns transformers' tokenizer. The trainer breaks ties at random."""
    trainer = trainers.WordPieceTrainer(vocab_size=size, limit_alphabet=size // 3, show_progress=False)
    normalizer, splitter = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    vocabulary = train(models.WordPiece(unk_token="[UNK]"), trainer, normalizer, splitter, texts).get_vocab()
    ordinary = sorted(set(vocabulary) - set(WORD_PIECE.special_tokens))
    # As in published vocabularies [PAD] comes first, and the other special tokens somewhere later.
    tokens = ["[PAD]", *ordinary[:7], "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ordinary[7:]]
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
    write(folder / "tokenizer_config.json", {"do_lower_case": lowercase})
    return tokenizer_class.from_pretrained(folder)


def make_byte_level(folder: Path, texts: list[str], prefix_space: bool):
    """Write vocab.json, merges.txt and tokenizer_config.json. Returns transformers' tokenizer."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]  # the ids of the published vocabulary; <mask> comes last
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend = train(models.BPE(), trainer, None, pre_tokenizers.ByteLevel(add_prefix_space=prefix_space), texts)
    model = json.loads(backend.to_str())["model"]
    write(folder / "vocab.json", model["vocab"] | {"<mask>": len(model["vocab"])})
    merges = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("".join(merge + "\n" for merge in merges), encoding="utf-8")
    write(folder / "tokenizer_config.json", {"add_prefix_space": prefix_space})
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)  # as in the published tokenizer.json
    return transformers.RobertaTokenizer.from_pretrained(folder, mask_token=mask)


def make_unigram(folder: Path, texts: list[str]):
    """Write tokenizer.json. Returns transformers' tokenizer, which adds all but the vocabulary."""
    special = list(UNIGRAM.special_tokens)
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=special, unk_token="<unk>", show_progress=False)
    plain = transformers.AlbertTokenizer().backend_tokenizer
    backend = train(models.Unigram(), trainer, plain.normalizer, plain.pre_tokenizer, texts)
    vocabulary = [tuple(row) for row in json.loads(backend.to_str())["model"]["vocab"]]
    mask = AddedToken("[MASK]", lstrip=True, normalized=False, special=True)  # as in the published tokenizer.json
    tokenizer = transformers.AlbertTokenizer(vocab=vocabulary, mask_token=mask)
    write(folder / "tokenizer.json", json.loads(tokenizer.backend_tokenizer.to_str()))
    return tokenizer


def write(path: Path, values) -> None:
    """Compact JSON, one line."""
    path.write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def encode(tokenizer, texts: list[str]) -> dict[str, list]:
    """The ids of texts and of pairs, whole and cut. Those of a pair are [ids in segment 0, ids in segment 1].

    The pair of a text is the text after it. To save space, pairs are made of every other text, whole ones of every 4th.
    """
    found = {"texts": tokenizer(texts)["input_ids"]}
    for length in LENGTHS:
        found[f"texts {length}"] = tokenizer(texts, truncation="longest_first", max_length=length)["input_ids"]
    for step, length in ((4, None), *((2, length) for length in LENGTHS)):
        cut = {} if length is None else {"truncation": "longest_first", "max_length": length}
        firsts, seconds = texts[::step], texts[1:] + texts[:1]
        made = tokenizer(firsts, seconds[::step], return_token_type_ids=True, **cut)
        rows = zip(made["input_ids"], made["token_type_ids"], strict=True)
        found["pairs" + (f" {length}" if length else "")] = [
            [ids[: types.count(0)], ids[types.count(0) :]] if sorted(types) == types else None for ids, types in rows
        ]
    return found


def check_saved(folder: Path, texts: list[str], expected: dict[str, list]) -> None:
    """transformers reads what minbert saves: with the family's config.json, and the ids stay the same."""
    with tempfile.TemporaryDirectory() as saved:
        load_tokenizer(folder).save(Path(saved))
        (Path(saved) / "config.json").write_bytes((folder / "config.json").read_bytes())
        tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
        assert encode(tokenizer, texts) == expected, folder.name
        assert len(tokenizer) == len(load_tokenizer(folder)), folder.name
        print(folder.name, type(tokenizer).__name__, len(tokenizer), sorted(tokenizer(texts[0])))


MAKERS = {  # folder -> model_type, and what fills the folder
    "bert": ("bert", partial(make_word_piece, tokenizer_class=BertTokenizer, lowercase=True, size=900)),
    "distilbert": (
        "distilbert",
        partial(make_word_piece, tokenizer_class=DistilBertTokenizer, lowercase=False, size=500),
    ),
    "roberta": ("roberta", partial(make_byte_level, prefix_space=False)),
    "roberta-space": ("roberta", partial(make_byte_level, prefix_space=True)),
    "albert": ("albert", make_unigram),
}


def main() -> None:
    texts = make_texts()
    FOLDER.mkdir(parents=True, exist_ok=True)
    write(FOLDER / "texts.json", texts)
    for name, (family, make) in MAKERS.items():
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        write(folder / "config.json", {"model_type": family})
        tokenizer = make(folder, texts)
        expected = encode(tokenizer, texts)
        write(folder / "ids.json", expected if name != "roberta-space" else {"texts": expected["texts"]})
        if name == "roberta":  # the same tokenizer in one file, as transformers writes it
            write(FOLDER / "roberta.json", json.loads(tokenizer.backend_tokenizer.to_str()))
        check_saved(folder, texts, expected)


if __name__ == "__main__":
    main()

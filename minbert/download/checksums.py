"""The size and the SHA-256 of the published downloads. A file that differs is not used.

The numbers of GLUE's archives are those that two other projects published, tensorflow/datasets
(tensorflow_datasets/url_checksums/glue.txt) and huggingface/datasets (datasets/glue/dataset_infos.json), and they agree
(the first has no QQP-clean.zip). Those of the course's files are from the repository itself, at commit 7ac8260.
They are checksums of whole files, and not of ids, texts and labels, because a whole file includes all of these. What is
made from a checked download needs no checksum of its own.

A line can be made again, without changing anything in the file: wc -c FILE; sha256sum FILE

quora-train.csv and quora-test-student.csv are missing: nobody has published their checksums.
"""

from pathlib import Path

from minbert.errors import InputError
from minbert.files import sha256

CHECKSUMS = {
    "CoLA.zip": (376_971, "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff"),
    "SST-2.zip": (7_439_277, "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa"),
    "STS-B.zip": (802_872, "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85"),
    "QQP-clean.zip": (41_696_084, "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0"),
    "MNLI.zip": (312_783_507, "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633"),
    "QNLIv2.zip": (10_627_589, "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5"),
    "RTE.zip": (697_150, "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee"),
    "WNLI.zip": (28_999, "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46"),
    "msr_paraphrase_train.txt": (1_047_044, "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89"),
    "msr_paraphrase_test.txt": (441_275, "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784"),
    "mrpc_dev_ids.tsv": (6_222, "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7"),
    "ids-sst-train.csv": (1_175_139, "03b2b625c090f94a6afd59f114cde5282e2053aab0b101e87ed695d8a0c5b1df"),
    "ids-sst-dev.csv": (151_384, "a186ce94577635fbe10beaaddd50f16cccf6c30973221cefdf90deed2a584bfe"),
    "ids-sst-test-student.csv": (313_202, "bdd5a767faa0c26782117e37767ece154c30d5d04fb8727d09c71e3850a55c7b"),
    "ids-cfimdb-train.csv": (1_693_182, "140fc513045a966109faed46a5c7a898767b96714d71bcb9c15f659129fadcea"),
    "ids-cfimdb-dev.csv": (249_095, "3087f571b66860fe5d035b5a018d08202ad3fd3720e4821c04b2acf6c7ded559"),
    "ids-cfimdb-test-student.csv": (495_595, "7ae611548c9eac879e9ebb406cc9f8ae68ff12f78090e4965af5cbdfa06240f4"),
    "quora-dev.csv": (3_205_321, "bfa3cc954a9ba300ae776a980141de65f622a3c1b97e3fd905d63245bc36d5ad"),
    "sts-train.csv": (928_832, "15d12efc2d656fffb1d61ac1f08ec4227f43925fd16f420c037cbd063699c21b"),
    "sts-dev.csv": (132_265, "ce3cad6f16062586ac7ba462c28b010a9be10c530fd5074165860d7b7ab4e93d"),
    "sts-test-student.csv": (256_677, "dee455745b72e9ca3ff74e7c056bd73e34bad5b8d5641045a2c1e7e131866f47"),
}


def published_size(name: str) -> int | None:
    """The bytes of a published download; None if nobody has published them."""
    return CHECKSUMS[name][0] if name in CHECKSUMS else None


def check_checksum(path: Path, place: object) -> None:
    """Raise InputError that names the place if a file of this name was published with other bytes."""
    if path.name not in CHECKSUMS:
        return
    checksum, expected = sha256(path), CHECKSUMS[path.name][1]
    if checksum != expected:
        raise InputError(f"{place} is not the published file: its SHA-256 is {checksum}, not {expected}")

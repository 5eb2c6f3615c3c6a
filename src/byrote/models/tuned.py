"""Models that were tuned elsewhere: which weights they are, and how they come into memory unchanged.

A tuned model is a folder or a Hub id, a PEFT adapter on one, or an object in memory. Folders are named by their
content, objects by the bytes of their weights. Nothing is unpickled and no code of theirs is run.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from byrote.models import fingerprint, hub
from byrote.models.load import ResolvedModel, load_model, load_tokenizer, quiet
from byrote.types import StudyError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PROMPTS = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT")
"""PEFT's names of adapters that put trained positions before the text."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
LEAVES_BASE = (True, False, None, "gaussian", "eva")
"""`init_lora_weights` that change no weight of the base; the others (PiSSA, OLoRA, CorDA, LoftQ, ...) do."""

SWITCHES = (
    "active_adapter",
    "_active_adapter",
    "_disable_adapters",
    "_adapters_disabled",
    "merged_adapters",
    "scaling",
)
"""Where PEFT's modules keep which adapters have a part in the outputs, and how much: no tensor tells."""

Family = Literal["parameter", "prompt"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A PEFT folder. `config` is its adapter_config.json."""

    folder: Path
    config: dict[str, Any]
    fingerprint: str

    @property
    def base(self) -> str | None:
        """What the adapter says that it was trained on."""
        named = self.config.get("base_model_name_or_path")
        return str(named) if named else None

    @property
    def kind(self) -> str:
        """PEFT's name of the method."""
        return str(self.config["peft_type"])


def is_adapter(reference: str) -> bool:
    """Whether a reference is a folder that holds an adapter and no model."""
    folder = Path(reference).expanduser()
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def find_adapter(reference: str) -> Adapter:
    """The adapter in a folder. Raises StudyError where there is none that can be read safely."""
    folder = Path(reference).expanduser()
    if not (folder / CONFIG).is_file():
        kind = "is not an adapter" if folder.is_dir() else "is not there"
        raise StudyError(f"the adapter {reference} {kind}: a folder with {CONFIG} is needed (of the Hub, download it)")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{folder / CONFIG} is not valid JSON: {hub.first_line(error)}") from None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise StudyError(f"{folder / CONFIG} does not say which kind of PEFT adapter it is (peft_type)")
    if not (folder / WEIGHTS).is_file():
        if (folder / PICKLED).is_file():
            raise StudyError(
                f"{folder} holds pickled weights only ({PICKLED}). byrote reads safetensors and unpickles nothing; "
                "load the adapter where you trust it and call save_pretrained, which writes safetensors"
            )
        raise StudyError(f"{folder} has no weights: {WEIGHTS} is missing")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise StudyError(f"{folder} is an adapter for {config['task_type']}; byrote audits causal language models")
    files = {CONFIG, WEIGHTS} | {path.name for pattern in fingerprint.PARTS for path in folder.glob(pattern)}
    found = fingerprint.of_files(folder / name for name in files if (folder / name).is_file())
    return Adapter(folder, config, found)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZERS)


class GivenModel(ABC):
    """A model that byrote is given: what it is called and known by, and how it is brought into memory."""

    reference: str
    fingerprint: str
    """Equal only for equal weights."""
    description: str
    notes: tuple[str, ...] = ()
    """What its owner should know of it, as plain sentences."""
    family: Family = "parameter"
    virtual_tokens: int = 0

    @abstractmethod
    def load(self, *, dtype: str, device: str) -> nn.Module:
        """The model in evaluation mode, to be scored."""

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Its own; None where it has none."""


class TunedOnDisk(GivenModel):
    """A model of a folder or the Hub, with an adapter on it or without."""

    def __init__(self, resolved: ResolvedModel, adapter: Adapter | None = None) -> None:
        self.resolved, self.adapter = resolved, adapter
        if adapter is None:
            self.reference, self.description = resolved.reference, resolved.description
            self.fingerprint = resolved.fingerprint
            return
        self.reference = str(adapter.folder)
        self.description = f"{adapter.kind} adapter {adapter.folder.name} on {resolved.description}"
        self.fingerprint = f"{adapter.fingerprint} on {resolved.fingerprint}"
        self.family, self.virtual_tokens = _prompt(adapter.kind, adapter.config.get("num_virtual_tokens"))
        if (
            adapter.base
            and Path(adapter.base).name != Path(resolved.location).name
            and adapter.base != resolved.reference
        ):
            self.notes = (
                f"The adapter says that it was tuned on {adapter.base}; here it is put on {resolved.reference}.",
            )

    def load(self, *, dtype: str, device: str) -> nn.Module:
        """The model from its files, every weight of it in `dtype`."""
        model: Any = load_model(self.resolved, dtype=dtype)
        if self.adapter is not None:
            model = put_on(model, self.adapter, self.resolved.reference)
        whole: nn.Module = model.to(device)
        return whole

    @property
    def tokenizer_missing(self) -> bool:
        """Whether the folder of the model has none."""
        return self.resolved.kind == "folder" and not has_tokenizer(Path(self.resolved.location))

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The adapter's own, else that of the model that it is on, else none."""
        if self.adapter is not None and has_tokenizer(self.adapter.folder):
            place = str(self.adapter.folder)
            return load_tokenizer(ResolvedModel(place, "folder", place, "", ""))
        if self.tokenizer_missing:
            return None
        return load_tokenizer(self.resolved)


def _prompt(kind: str, tokens: Any) -> tuple[Family, int]:
    return ("prompt", int(tokens or 0)) if kind in PROMPTS else ("parameter", 0)


def put_on(model: PreTrainedModel, adapter: Adapter, named: str) -> nn.Module:
    """The model with the adapter on it, whole: PEFT only warns of weights that are missing, and drops others silently.

    Changes `model` in place. Raises StudyError where the adapter was made for another base.
    """
    from peft import PeftModel, set_peft_model_state_dict
    from peft.utils import load_peft_weights
    from safetensors import SafetensorError

    place = str(adapter.folder)
    try:
        with quiet(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            tuned: Any = PeftModel.from_pretrained(model, place)
            found = load_peft_weights(place, device="cpu")
            result: Any = set_peft_model_state_dict(tuned, found)
    except SafetensorError as error:
        raise StudyError(f"{adapter.folder / WEIGHTS} is damaged ({hub.first_line(error)}); fetch it again") from None
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise StudyError(
            f"the adapter {place} does not fit the model {named}: {_briefly(error)}. It says that it was tuned on "
            f"{adapter.base or 'nothing that it names'}; give that model"
        ) from None
    missing = [str(one.message) for one in said if "missing adapter keys" in str(one.message)]
    # Virtual tokens are loaded by another way, and counted as unexpected by this one.
    unexpected = sorted(set(getattr(result, "unexpected_keys", None) or []) - {"prompt_embeddings"})
    if missing or unexpected:
        what = f"weights for {unexpected[0]} have no place" if unexpected else missing[0][:200]
        raise StudyError(
            f"the adapter {place} does not fit the model {named}: {what}. It says that it was tuned on "
            f"{adapter.base or 'nothing that it names'}; give that model"
        )
    whole: nn.Module = tuned.eval()
    return whole


def _briefly(error: Exception) -> str:
    """What an exception says on its last two lines, which is where torch says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__


class InMemory(GivenModel):
    """A transformers model, or a PEFT model, that somebody holds. It is never changed: see `twin_of`."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, *, untuned: bool = False) -> None:
        """`untuned` takes a PEFT model with its adapter switched off."""
        self.model, self._tokenizer, self.untuned = model, tokenizer, untuned
        config = active_config(model)
        kind = type(model.get_base_model() if config is not None else model).__name__
        on = "" if config is None else ", its adapter switched off" if untuned else f" with a {_kind(config)} adapter"
        self.reference = f"{kind} in memory{on}"
        self.description = self.reference
        self.fingerprint = f"{of_model(model, tokenizer)}{' untuned' if untuned else ''}"
        if config is not None and not untuned:
            self.family, self.virtual_tokens = _prompt(_kind(config), getattr(config, "num_virtual_tokens", None))

    def load(self, *, dtype: str, device: str) -> nn.Module:
        """A twin of the model where it stands and in its own precision."""
        twin = twin_of(self.model)
        if self.untuned:
            twin = switched_off(twin)
        whole: nn.Module = twin.eval()
        return whole

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The one that came with it."""
        return self._tokenizer


def active_config(model: Any) -> Any | None:
    """The configuration of the adapter in use; None for a model without. Raises StudyError for several at once."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return None
    active = model.active_adapters if isinstance(model.active_adapters, list) else [model.active_adapter]
    if len(active) != 1:
        raise StudyError(f"{len(active)} adapters are active ({', '.join(active)}): set_adapter one of them")
    return model.peft_config[active[0]]


def _kind(config: Any) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))


def twin_of(model: Any) -> Any:
    """A model with modules and flags of its own over the same numbers: nothing that is done to it reaches the other.

    Its memory is that of the modules alone. Training mode, adapters in use, hooks and gradients are the twin's.
    Quantised parameters carry more than their numbers and are the model's own: their flags are not to be changed.
    """
    import torch
    from torch import nn

    shared: dict[int, Any] = {}
    for parameter in model.parameters():
        plain = type(parameter) is nn.Parameter
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False) if plain else parameter
    for buffer in model.buffers():
        shared[id(buffer)] = buffer.detach() if type(buffer) is torch.Tensor else buffer
    return copy.deepcopy(model, shared)


def switched_off(model: Any) -> Any:
    """The model inside a PEFT model, without its adapter. Changes `model` in place."""
    config = active_config(model)
    assert config is not None
    if not config.is_prompt_learning:
        model.base_model.disable_adapter_layers()
    return model.get_base_model()


def is_merged(model: Any) -> bool:
    """Whether an adapter was added into the weights that it lies on."""
    return any(getattr(module, "merged", False) for module in model.modules())


def changes_its_base(model: Any) -> bool:
    """Whether a PEFT model's adapter, switched off, may leave other weights than the base model's."""
    config: Any = active_config(model)
    if config.is_prompt_learning:
        return False
    started = getattr(config, "init_lora_weights", None) not in LEAVES_BASE
    return is_merged(model) or started or getattr(config, "bias", "none") != "none"


def tokenizer_beside(model: Any) -> PreTrainedTokenizerBase | None:
    """The tokenizer in the folder that a model in memory was read from; None where there is none."""
    place = Path(str(getattr(model.config, "_name_or_path", "") or ""))
    if place == Path() or not has_tokenizer(place):
        return None
    return load_tokenizer(ResolvedModel(str(place), "folder", str(place), "", ""))


def of_model(model: Any, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash (32 hex digits) of a model in memory: all that decides what it says of a text, and its tokenizer."""
    import torch

    whole = hashlib.sha256(type(model).__name__.encode())
    whole.update(model.config.to_json_string().encode())
    if (config := active_config(model)) is not None:
        whole.update(json.dumps(config.to_dict(), sort_keys=True, default=_in_order).encode())
    for name, module in model.named_modules():
        state = {key: value for key, value in vars(module).items() if key in SWITCHES}
        whole.update(f"{name} {type(module).__name__} {json.dumps(state, sort_keys=True, default=_in_order)}".encode())
    whole.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # how it pads and cuts is left over from its last call
        rules = {
            key: value for key, value in json.loads(backend.to_str()).items() if key not in ("padding", "truncation")
        }
        whole.update(json.dumps(rules, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        whole.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:32]


def _in_order(value: Any) -> Any:
    """What JSON has no word for: a set has no order of its own."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)

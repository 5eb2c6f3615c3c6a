"""Sentence encoders: a text as one vector of length one, so that the dot product of two is their cosine.

A folder in the layout of sentence-transformers says itself how its states are pooled; any other encoder's are averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from byrote.models.load import ResolvedModel, is_encoder, load_encoder
from byrote.types import StudyError

if TYPE_CHECKING:
    import torch

RECIPE = 1
"""Raised when the vector of a text becomes another one."""
MOST_TOKENS = 256
"""Of one text that are read, special ones counted; fewer where the encoder takes fewer."""
BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Padded tokens that are read at once: on a processor few, which stay in its cache."""
POOLING, MODULES, LENGTH = "1_Pooling/config.json", "modules.json", "sentence_bert_config.json"
KNOWN = ("Transformer", "Pooling", "Normalize")
"""The modules of sentence-transformers that are computed here."""
POOLED: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",  # the same, once its length is made one
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
SHIFTED = ("roberta", "camembert", "mpnet", "longformer")
"""Families whose first two positions no token takes."""

Pooling = Literal["mean", "cls", "max"]
Vectors = NDArray[np.float32]
"""(N, d)"""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a folder wants its texts read."""

    pooling: Pooling = "mean"
    max_tokens: int = MOST_TOKENS
    lower: bool = False


def encoder_identity(resolved: ResolvedModel) -> str:
    """Equal only for encoders that give every text the same vector; no weights are loaded."""
    layout = layout_of(Path(resolved.location), resolved.reference) if resolved.kind == "folder" else None
    return hashlib.sha256(repr((RECIPE, resolved.fingerprint, layout)).encode()).hexdigest()[:16]


def layout_of(folder: Path, reference: str) -> Layout:
    """What the files beside the model say. Raises StudyError where they ask for what byrote does not compute."""
    modules = [str(one.get("type", "")).rpartition(".")[2] for one in _read(folder / MODULES, []) or ()]
    if strange := [name for name in modules if name not in KNOWN]:
        raise StudyError(
            f"the encoder {reference} has a layer {strange[0]}, which byrote does not compute: name another"
        )
    said, length = _read(folder / POOLING, {}), _read(folder / LENGTH, {})
    named = said.get("pooling_mode")
    chosen = (
        [named] if named else [POOLED.get(key, key) for key, on in said.items() if key[:13] == "pooling_mode_" and on]
    )
    if len(set(chosen)) > 1 or not set(chosen) <= set(POOLED.values()):
        raise StudyError(
            f"the encoder {reference} pools its states by {' and '.join(map(str, chosen))}; byrote knows "
            f"{', '.join(sorted(set(POOLED.values())))}, one at a time: name another"
        )
    most = min(MOST_TOKENS, int(length.get("max_seq_length") or MOST_TOKENS))
    return Layout(chosen[0] if chosen else "mean", most, bool(length.get("do_lower_case")))


def _read(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
    except ValueError as error:
        raise StudyError(f"{path} is not valid JSON: {error}") from None


class SentenceEncoder:
    """Vectors of texts. `cut` counts those that were read only as far as `max_tokens`."""

    def __init__(self, resolved: ResolvedModel, device: str = "cpu") -> None:
        loaded, folder = load_encoder(resolved, device=device)
        config: Any = loaded.model.config
        self.layout = layout_of(folder, resolved.reference)
        if config.is_encoder_decoder or not (is_encoder(config.to_dict()) or (folder / POOLING).is_file()):
            raise StudyError(f"{resolved.reference} is no sentence encoder: its tokens do not see those after them")
        self.model, self.tokenizer, self.device = loaded.model, loaded.tokenizer, device
        self.reference, self.cut = resolved.reference, 0
        positions = int(getattr(config, "max_position_embeddings", 0) or MOST_TOKENS)
        positions -= 2 * any(name in config.model_type for name in SHIFTED)
        self.max_tokens = min(self.layout.max_tokens, positions)

    def __call__(self, texts: Sequence[str], advance: Callable[[int, int], None] = lambda done, total: None) -> Vectors:
        """(N, d), each of length one; of a text without any token, zeros.

        `advance` hears how many are done, of how many. Raises StudyError where a number is not finite.
        """
        ids = self._ids(texts)
        found, done = np.zeros((len(texts), int(self.model.config.hidden_size)), np.float32), 0
        for part in _batches([len(one) for one in ids], BATCH_TOKENS.get(self.device.split(":")[0], 1024)):
            found[part] = self._vectors([ids[at] for at in part])
            done += len(part)
            advance(done, len(texts))
        if not np.isfinite(found).all():
            raise StudyError(f"the encoder {self.reference} gives numbers that are not finite")
        return found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, special ones among them."""
        # The tokenizers cannot take half of a surrogate pair.
        plain = [text.encode("utf-8", "replace").decode() for text in texts]
        plain = [text.lower() for text in plain] if self.layout.lower else plain
        ids: list[list[int]] = self.tokenizer(plain, truncation=False, verbose=False)["input_ids"] if plain else []
        long = [at for at, one in enumerate(ids) if len(one) > self.max_tokens]
        for at in long:
            ids[at] = self.tokenizer(plain[at], truncation=True, max_length=self.max_tokens)["input_ids"]
        self.cut += len(long)
        return ids

    def _vectors(self, ids: Sequence[Sequence[int]]) -> Vectors:
        import torch

        longest = max(map(len, ids))
        filled = torch.full((len(ids), longest), int(self.tokenizer.pad_token_id or 0))
        mask = torch.zeros((len(ids), longest), dtype=torch.long)
        for at, one in enumerate(ids):
            filled[at, : len(one)] = torch.tensor(one)
            mask[at, : len(one)] = 1
        with torch.inference_mode():
            mask = mask.to(self.device)
            states = self.model(input_ids=filled.to(self.device), attention_mask=mask).last_hidden_state
            pooled = torch.nn.functional.normalize(_pooled(states.float(), mask[..., None], self.layout.pooling), dim=1)
        return pooled.cpu().numpy()


def _pooled(states: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """(B, d) from states (B, T, d) and a mask (B, T, 1)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(mask == 0, float("-inf")).amax(dim=1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Places of texts of like length, so many that they do not exceed the tokens once padded; none of empty ones."""
    part: list[int] = []
    for at in sorted((at for at, length in enumerate(lengths) if length), key=lambda at: lengths[at]):
        if part and (len(part) + 1) * lengths[at] > tokens:
            yield part
            part = []
        part.append(at)
    if part:
        yield part

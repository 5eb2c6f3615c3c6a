"""What a person writes (Study), what it expands to (Experiment), and the identities of both.

An Experiment holds everything that changes the weights and nothing else; its id is the hash of
exactly that. Attacks, utility measures, the store and the device are not in it, so asking a new
question of a trained model costs no training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from byrote.registry import Component, explain, make, nearest
from byrote.types import StudyError

# The part of a run's identity that stands for byrote's own training code: raised whenever the
# same experiment would give other weights than before, so that old runs are not taken for new.
RECIPE = 1

# Names that other tools use, and ours. A key on the left is an error that names the right one.
ELSEWHERE = {
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "gradient_accumulation_steps": "batch_size",
    "lr": "learning_rate",
    "max_seq_length": "max_length",
    "block_size": "max_length",
    "model_name": "model",
    "model_name_or_path": "model",
    "base_model": "model",
    "dataset": "data",
    "dataset_name": "data.source",
    "text_column": "data.text",
    "label_column": "data.label",
    "group_column": "data.group",
    "seed": "seeds",
    "method": "methods",
    "attack": "attacks",
    "early_stopping": "early_stop",
    "early_stopping_patience": "early_stop",
    "max_grad_norm_dp": "privacy: {clip_norm}",
    "target_epsilon": "privacy: {epsilon}",
}

Rate = Annotated[float, Field(gt=0, le=100)]
LearningRate = Literal["auto"] | Rate


def _reads(room: str) -> BeforeValidator:
    """Reads a component of a room from its name, or from a mapping with its settings."""

    def read(value: Any) -> Any:
        if isinstance(value, Component):
            return value
        try:
            return make(room, value)
        except StudyError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


def as_spec(component: Component) -> dict[str, Any]:
    """A component as a study spells it, with every setting: {"name": "lora", "r": 8, ...}."""
    return {"name": component.name, **component.model_dump(mode="json")}


_written = PlainSerializer(as_spec, return_type=dict)
_Method = Annotated[Component, _reads("method"), _written]
_Attack = Annotated[Component, _reads("attack"), _written]
_Utility = Annotated[Component, _reads("utility"), _written]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Data(_Strict):
    """Where the records come from, and how many of them take which part."""

    source: str = Field(min_length=1)
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    label: str | None = None
    group: str | None = None
    id: str | None = None
    split: str = "train"
    revision: str | None = None
    members: int = Field(ge=2)
    nonmembers: int | None = Field(default=None, ge=2)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    min_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    near_duplicates: float = Field(default=0.8, gt=0, le=1)
    on_bad_rows: Literal["error", "skip"] = "error"

    @model_validator(mode="after")
    def _one_shape(self) -> Data:
        if self.text is not None and (self.prompt is not None or self.completion is not None):
            raise ValueError("give either text, or prompt and completion, not both")
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("prompt and completion go together: name both columns")
        if self.min_tokens and self.max_tokens and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self


class Training(_Strict):
    """What training a run takes besides its data, method and seed. TrainingArguments' names where those exist."""

    objective: Literal["lm"] = "lm"
    epochs: int = Field(default=3, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    lr_scheduler_type: Literal["linear", "constant"] = "linear"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, ge=2)
    early_stop: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a better validation loss. None: never."""
    dtype: Literal["float32", "bfloat16"] = "float32"


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Study(Training):
    """A whole study, as its YAML file spells it."""

    name: str = Field(min_length=1, pattern=r"^[^/\\\x00]+$")
    question: str = "Which fine-tuning methods memorise their training records, and at what utility?"
    model: str = Field(min_length=1)
    revision: str | None = None
    trust_remote_code: bool = False
    data: Data
    methods: Annotated[list[_Method], BeforeValidator(_as_list), Field(min_length=1)]
    privacy: Annotated[list[Literal["none"]], BeforeValidator(_as_list), Field(min_length=1)] = ["none"]
    attacks: Annotated[list[_Attack], BeforeValidator(_as_list)] = Field(
        default_factory=lambda: [make("attack", name) for name in ("loss", "reference", "zlib", "min-k", "min-k++")]
    )
    utility: Annotated[list[_Utility], BeforeValidator(_as_list)] = Field(
        default_factory=lambda: [make("utility", "perplexity")]
    )
    learning_rate: LearningRate = "auto"
    seeds: Annotated[list[int], BeforeValidator(_as_list), Field(min_length=1)] = [0]
    keep: Literal["adapters", "all", "none"] = "adapters"
    device: str = "auto"

    @model_validator(mode="after")
    def _nothing_twice(self) -> Study:
        for field in ("methods", "attacks", "utility", "privacy", "seeds"):
            seen = set()
            for value in getattr(self, field):
                key = json.dumps(as_spec(value), sort_keys=True) if isinstance(value, Component) else value
                if key in seen:
                    raise ValueError(f"{field} lists {getattr(value, 'name', value)} twice")
                seen.add(key)
        return self

    def cells(self) -> Iterator[tuple[Component, str, int]]:
        """Every (method, privacy, seed) of the study, seeds outermost, in the order written."""
        for seed in self.seeds:
            for privacy in self.privacy:
                for method in self.methods:
                    yield method, privacy, seed

    def rates(self, method: Component) -> tuple[float, ...]:
        """The learning rates to try for a method: the given one, or its grid where `auto` stands."""
        given = getattr(method, "learning_rate", None) or self.learning_rate
        return tuple(type(method).learning_rates) if given == "auto" else (float(given),)  # type: ignore[attr-defined]

    def experiment(
        self, method: Component, privacy: str, seed: int, learning_rate: float, *, model: str, data: str
    ) -> Experiment:
        """The experiment of one cell; `model` and `data` are the fingerprints of what was loaded."""
        return Experiment(
            **{name: getattr(self, name) for name in Training.model_fields},
            recipe=RECIPE,
            model=model,
            source=data,
            data=_identity_of_data(self.data),
            method=as_spec(method.model_copy(update={"learning_rate": None})),
            privacy=privacy,
            learning_rate=learning_rate,
            seed=seed,
        )

    def base(self, *, model: str, data: str) -> BaseExperiment:
        """The untuned base model over this data, shared by all methods and seeds."""
        return BaseExperiment(recipe=RECIPE, model=model, source=data, max_length=self.max_length, dtype=self.dtype)


def _identity_of_data(data: Data) -> dict[str, Any]:
    """The fields that decide which records land where; where they lie is in the fingerprint instead."""
    return data.model_dump(exclude={"source", "revision", "split"})


class Experiment(Training):
    """One run: everything that changes the weights, and nothing else."""

    recipe: int
    model: str
    source: str
    data: dict[str, Any]
    method: dict[str, Any]
    privacy: str
    learning_rate: float
    seed: int


class BaseExperiment(_Strict):
    """The untuned base model, scored on the same data."""

    recipe: int
    model: str
    source: str
    max_length: int
    dtype: str


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                line = node.value[position][0].start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice (line {line})")
        return super().construct_mapping(node, deep)


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises StudyError that names the line."""
    try:
        loader = _Loader(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StudyError(f"{where}: {line}{error.problem or error}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise StudyError(f"{where}: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise StudyError(f"{where}: a study is a mapping of settings (name: ..., model: ..., data: ...)")
    return value


def override(raw: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """The raw study with `key.path=value` assignments applied; values are read as YAML."""
    changed: dict[str, Any] = json.loads(json.dumps(raw, default=str))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise StudyError(f"--set {assignment!r}: write key=value, for example --set epochs=2")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise StudyError(f"--set {assignment!r}: the value is not YAML") from None
        *parents, last = path.split(".")
        place = changed
        for parent in parents:
            step = place.setdefault(parent, {})
            if not isinstance(step, dict):
                raise StudyError(f"--set {assignment!r}: {parent} is not a mapping")
            place = step
        place[last] = value
    return changed


def study_from(raw: Mapping[str, Any], where: str, text: str = "") -> Study:
    """A checked study. Raises StudyError that names the file, the line, the key and the nearest right one."""
    try:
        return Study.model_validate(dict(raw))
    except ValidationError as error:
        problem = error.errors()[0]
        path = [part for part in problem["loc"] if isinstance(part, (str, int))]
        line = _line_of(text, path)
        place = f"{where}, line {line}" if line else where
        if problem["type"] != "extra_forbidden":
            raise StudyError(explain(error, Study.model_fields, place)) from None
        key = str(path[-1])
        owner = Data if path[0] == "data" and len(path) > 1 else Study
        if key in ELSEWHERE:
            raise StudyError(f"{place}: unknown key {key!r}: byrote calls it {ELSEWHERE[key]!r}.") from None
        known = list(owner.model_fields)
        raise StudyError(f"{place}: unknown key {key!r}.{nearest(key, known)} Known: {', '.join(known)}.") from None


def _line_of(text: str, path: list[str | int]) -> int | None:
    """The line (from 1) on which the deepest known part of a path stands in a YAML text."""
    if not text:
        return None
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def shipped_studies() -> dict[str, Path]:
    """The studies that come with byrote, by name: in the package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    folder = next((f for f in (here / "studies", here.parents[1] / "studies") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def load_study(reference: str | Path, assignments: list[str] | None = None) -> tuple[Study, Path]:
    """A study from a file or by the name of a shipped one, and the folder its paths are relative to."""
    path = Path(reference)
    if not path.is_file():
        shipped = shipped_studies()
        if str(reference) not in shipped:
            near = nearest(path.stem, list(shipped))
            raise StudyError(f"no study file {str(reference)!r}.{near} Shipped studies: {', '.join(shipped)}.")
        path = shipped[str(reference)]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot read the study {path}: {error}") from None
    raw = read_yaml(text, str(path))
    changed = override(raw, assignments or [])
    return study_from(changed, str(path), text if not assignments else ""), path.resolve().parent

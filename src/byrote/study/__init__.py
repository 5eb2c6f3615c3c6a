"""What a person writes (Study), what it expands to (Experiment), and how a study file is read."""

from byrote.study.axes import Axis, Point, VariedStudy
from byrote.study.experiment import BaseExperiment, Experiment
from byrote.study.fields import as_spec
from byrote.study.model import Study
from byrote.study.reading import load, load_study, read_yaml, shipped_studies

__all__ = [
    "Axis",
    "BaseExperiment",
    "Experiment",
    "Point",
    "Study",
    "VariedStudy",
    "as_spec",
    "load",
    "load_study",
    "read_yaml",
    "shipped_studies",
]

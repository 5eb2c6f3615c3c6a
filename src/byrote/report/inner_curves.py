"""Curves inside one study: over ranks, placements and rates of a method that stands twice, epsilon, and copies."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from byrote.report.axes import AxesManifest, PointEntry, PointResults, VariedResults
from byrote.report.axes_pictures import Picture, key_of, look_of, pictures_of
from byrote.report.axes_spots import spots_of
from byrote.report.palette import Style
from byrote.report.results import Results

APART = 1000
"""Added to the places in the key, so that hiding a line here hides no method in the other pictures."""


class Curves(NamedTuple):
    """The pictures, and the key to their lines: (place, label, style)."""

    pictures: list[Picture]
    key: list[tuple[int, str, Style]]


def curves_of(results: Results) -> Curves:
    """A picture for each thing that differs among the study's methods, levels and tiers; none where nothing does."""
    entry = PointEntry(values={}, words={}, folder=".")
    manifest = results.manifest
    alone = VariedResults(
        AxesManifest(byrote=manifest.byrote, name=manifest.name, question=manifest.question, axes=[], points=[entry]),
        (PointResults(entry, results),),
    )
    spots = spots_of(alone)
    look = {label: replace(style, key=style.key + APART) for label, style in look_of(alone, spots).items()}
    pictures = [picture._replace(name=f"curve-{at}") for at, picture in enumerate(pictures_of(alone, spots, look))]
    return Curves(pictures, key_of(pictures, look))

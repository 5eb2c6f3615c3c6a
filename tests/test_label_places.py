"""Names beside marks: inside the picture, off the other marks, and nearest to their own."""

from __future__ import annotations

from byrote.report.label_places import Mark, places_of

ENDS = (0.0, 1.0)


def test_a_name_alone_stands_right_of_its_mark_and_at_the_edge_left_of_it() -> None:
    assert places_of([Mark(0.4, 0.5, 12)], {0: "full"}, ENDS, ENDS) == {0: "top right"}
    found = places_of([Mark(1.0, 0.5, 12)], {0: "prompt-tuning"}, ENDS, ENDS)
    assert found[0] in ("top left", "bottom left")
    assert places_of([Mark(0.4, 0.5, 12)], {}, ENDS, ENDS) == {}


def test_a_name_does_not_cover_another_mark_nor_stand_nearer_to_it() -> None:
    marks = [Mark(0.50, 0.50, 14), Mark(0.53, 0.54, 14)]  # 21 and 14 pixels apart: above and to the right
    found = places_of(marks, {0: "lora", 1: "full"}, ENDS, ENDS)
    assert found[0].startswith("bottom") and found[1] == "top right", found
    unnamed = places_of(marks, {0: "lora"}, ENDS, ENDS)
    assert unnamed[0].startswith("bottom")


def test_names_on_one_spot_do_not_cover_each_other() -> None:
    found = places_of([Mark(0.5, 0.5, 10)] * 4, dict(enumerate(["full", "lora", "head", "prefix-tuning"])), ENDS, ENDS)
    assert len(set(found.values())) == 4


def test_a_picture_of_one_value_has_its_names_too() -> None:
    assert set(places_of([Mark(2.0, 0.5, 10)], {0: "full"}, (2.0, 2.0), (0.5, 0.5))) == {0}


def test_names_keep_off_a_mark_that_has_none() -> None:
    """Such as the untuned model's."""
    found = places_of([Mark(0.5, 0.5, 14), Mark(0.54, 0.55, 11)], {0: "lora"}, ENDS, ENDS)
    assert found[0].startswith("bottom") or found[0].endswith("left")

"""The tables that say what annotation does: of stages and of columns; the documents say the same."""

from pathlib import Path

import pytest

from vipa.hand3d.dataset.records import RECORDS, TABLES, columns, columns_text, make_row, schema
from vipa.hand3d.pipeline.table import STAGES

DOC = (Path(__file__).resolve().parents[2] / "docs" / "hand3d.md").read_text()


def test_the_document_lists_the_stages_in_their_order_and_what_they_do():
    lines = DOC.partition("| stage | does |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in lines] == [
        (stage.name, stage.does) for stage in STAGES
    ]


def test_a_stage_builds_only_on_those_before_it():
    names = [stage.name for stage in STAGES]
    assert len(set(names)) == len(names)
    for i, stage in enumerate(STAGES):
        assert set(stage.after) <= set(names[:i])


@pytest.mark.parametrize("table", TABLES)
def test_the_document_says_of_each_column_what_the_record_says(table):
    assert f"`{table}`:\n\n{columns_text(table)}\n" in DOC
    assert [name for name in schema(table).names if name != "image"] == [n for n, _, _ in columns(RECORDS[table])]


def test_a_path_that_leads_nowhere_is_an_error_and_one_through_nothing_is_nothing():
    class Nothing:
        scale = clip = config = notes = placed = clip_id = None

    with pytest.raises((AttributeError, TypeError)):
        make_row(RECORDS["action"], object())
    (made,) = (c.made for name, c, _ in columns(RECORDS["clips"]) if name == "scale_low")
    assert made == "scale.low"

"""The tables that say what annotation does: of stages and of columns; the documents say the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from vipa.hand3d.dataset.records import RECORDS, TABLES, Column, columns, columns_text, make_row, schema
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


def test_a_path_through_nothing_is_nothing_and_one_that_leads_nowhere_an_error():
    @dataclass
    class Thing:
        scale: Any

    @dataclass(frozen=True)
    class Record:
        scale: Annotated[float | None, Column("", "scale.scale")]
        split: Annotated[str, Column("not made of the thing")]

    assert make_row(Record, Thing(None)) == {"scale": None}
    assert make_row(Record, Thing(Thing(np.array([1.0])))) == {"scale": [1.0]}
    with pytest.raises(AttributeError):
        make_row(Record, Thing(2.0))

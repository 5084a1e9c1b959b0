"""Records as Parquet: what is written is read back, whatever is missing in it, and files agree in their columns."""

from typing import get_args

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.records import (
    Chunk,
    Decision,
    Kind,
    LeftOut,
    Negative,
    Sample,
    ScorerResult,
    Seed,
    SetAside,
    Side,
    Source,
    Task,
    Verdict,
    WrittenQuery,
)
from finegrade.storage.tables import about, iterate_rows, part_paths, read_rows, schema_of, write_parts, write_rows
from finegrade.synthesis.writer import Draft

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
sides, kinds, sources, decisions = (st.sampled_from(get_args(names)) for names in (Side, Kind, Source, Decision))
levels = st.integers(1, 8)
scores = st.floats(allow_nan=False)
negatives = st.builds(
    Negative, text=texts, level=levels, source=sources, sibling=st.none() | texts, flaw=st.none() | texts
)
results = st.builds(
    ScorerResult, scorer=texts, positive=scores, score=scores, sibling=st.none() | scores, raw=scores, reason=texts
)
RECORDS = {
    Seed: st.builds(
        Seed, id=texts, query=texts, positives=st.lists(texts, min_size=1, max_size=3).map(tuple), group=texts,
        section=texts,
    ),
    Sample: st.builds(
        Sample, id=texts, query=texts, positive=texts, negatives=st.lists(negatives, max_size=3).map(tuple),
        group=texts, kind=texts, instruction=texts,
    ),
    Draft: st.builds(
        Draft, id=texts, seed=texts, query=texts, positive=texts, group=texts, side=sides, kind=texts,
        negatives=st.lists(negatives, max_size=3).map(tuple), instruction=texts,
    ),
    Task: st.builds(Task, id=texts, kind=kinds, description=texts, instruction=texts, side=sides),
    SetAside: st.builds(SetAside, order=texts, query=texts, level=st.none() | levels, reason=texts, text=texts),
    Verdict: st.builds(
        Verdict, sample=texts, text=texts, source=sources, level_before=st.none() | levels,
        level_after=st.none() | levels,
        decision=decisions, reason=texts, positive_score=scores, score=scores, sibling_score=st.none() | scores,
        results=st.lists(results, max_size=2).map(tuple),
    ),
    LeftOut: st.builds(LeftOut, sample=texts, query=texts, positive=texts, reason=texts, evidence=texts),
    Chunk: st.builds(
        Chunk, id=texts, text=texts, path=texts, offset=st.integers(0, 2**62), heading=texts, group=texts, side=sides
    ),
    WrittenQuery: st.builds(WrittenQuery, query=texts, style=texts, chunk=texts),
}  # fmt: skip

EVERY = pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
SHARED_FOLDER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@EVERY
@SHARED_FOLDER
@given(data=st.data())
def test_records_are_read_back_as_written(kind, data, tmp_path):
    rows = data.draw(st.lists(RECORDS[kind], max_size=4))
    write_rows(tmp_path / "rows.parquet", rows, kind)
    assert read_rows(tmp_path / "rows.parquet", kind) == rows


@EVERY
@SHARED_FOLDER
@given(data=st.data())
def test_files_agree_in_their_columns_whatever_is_in_them(kind, data, tmp_path):
    write_rows(tmp_path / "none.parquet", [], kind)
    write_rows(tmp_path / "some.parquet", data.draw(st.lists(RECORDS[kind], min_size=1, max_size=2)), kind)
    none, some = (pq.read_schema(tmp_path / f"{name}.parquet") for name in ("none", "some"))
    assert none.equals(some)
    assert none.names == list(kind.model_fields)
    assert none.equals(schema_of(kind))


@pytest.mark.parametrize(("kind", "may"), [
    (SetAside, {"level"}), (Verdict, {"level_before", "level_after", "sibling_score"}), (Seed, set()), (Sample, set()),
])  # fmt: skip
def test_only_what_may_be_none_may_be_null(kind, may):
    schema = schema_of(kind)
    assert {name for name in schema.names if schema.field(name).nullable} == may


def test_a_negative_s_own_fields_may_be_null_inside_a_sample():
    inside = schema_of(Sample).field("negatives").type.value_type
    assert {field.name for field in inside if field.nullable} == {"level", "sibling", "flaw"}


@given(st.lists(RECORDS[Task], max_size=9), st.integers(1, 4))
@SHARED_FOLDER
def test_parts_hold_all_rows_in_order_and_replace_those_that_were_there(tmp_path, rows, rows_a_part):
    folder = tmp_path / "parts"
    parts = write_parts(folder, iter(rows), Task, rows_a_part)
    assert parts == part_paths(folder)
    assert len(parts) == max(1, -(-len(rows) // rows_a_part))
    assert read_rows(folder, Task) == list(iterate_rows(folder, Task)) == rows
    assert all(len(read_rows(part, Task)) == rows_a_part for part in parts[:-1])


def test_the_same_rows_are_the_same_bytes(tmp_path):
    rows = [Task(id=str(i), kind="sts", description="x" * i, instruction="", side="test") for i in range(50)]
    for name in ("one", "two"):
        write_rows(tmp_path / name, rows, Task, {"of": "tests"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert about(tmp_path / "one") == {"of": "tests"}


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -9])
def test_a_part_that_was_cut_says_nothing_of_itself_and_is_reported_in_one_line(tmp_path, keep):
    path = tmp_path / "rows.parquet"
    write_rows(path, [Task(id="1", kind="sts", description="x", instruction="x", side="test")], Task, {"of": "tests"})
    path.write_bytes(path.read_bytes()[:keep])
    assert about(path) == {}
    with pytest.raises(InputError, match="wanted Task rows") as error:
        read_rows(path, Task)
    assert "\n" not in str(error.value)


def test_rows_that_are_no_such_records_are_reported(tmp_path):
    write_rows(
        tmp_path / "rows.parquet", [Task(id="1", kind="sts", description="x", instruction="x", side="test")], Task
    )
    with pytest.raises(InputError, match="wanted Seed rows"):
        read_rows(tmp_path / "rows.parquet", Seed)
    assert about(tmp_path / "nowhere.parquet") == {}

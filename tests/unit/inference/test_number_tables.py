from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.inference.number_tables import parse_table

tables = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(st.floats(-1e12, 1e12), min_size=columns, max_size=columns), min_size=1, max_size=6
    )
)


@given(tables, st.booleans(), st.booleans())
def test_any_table_is_read_as_it_was_written_with_or_without_names_and_dates(rows, named: bool, dated: bool) -> None:
    names = [f"column {i}" for i in range(len(rows[0]))]
    text = io.StringIO()
    writer = csv.writer(text)
    if named:
        writer.writerow([*(["date"] if dated else []), *names])
    for number, row in enumerate(rows):
        writer.writerow([*([f"2016-07-{number + 1:02} 00:00"] if dated else []), *row])
    table = parse_table(text.getvalue(), "t.csv")
    assert table.channels == (names if named else [str(i) for i in range(len(names))])
    np.testing.assert_array_equal(table.values, rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv: no rows"),
        ("\n\n", r"t\.csv: no rows"),
        ("1,2\n3\n", r"t\.csv:2: 1 numbers, the rows before have 2"),
        ("a,b\n1,2\n3,x\n", r"t\.csv:3: 'x' is no finite number"),
        ("1,2\n3,nan\n", r"t\.csv:2: 'nan' is no finite number"),
        ("1,2\n3,\n", r"t\.csv:2: '' is no finite number"),
        ("a,b,c\n1,2\n", r"t\.csv: 3 names, but 2 numbers a row"),
        ("a,a\n1,2\n", r"t\.csv: two columns have the same name"),
        ("1,nan\n3,4\n", r"t\.csv:1: 'nan' is no finite number"),
        ("1,\n3,4\n", r"t\.csv:1: '' is no finite number"),
        (",5\n3,4\n", r"t\.csv:1: '' is no finite number"),
        ("2016-07-01,,2\n2016-07-02,3,4\n", r"t\.csv:1: '' is no finite number"),
        ("a,b\n,2\n3,4\n", r"t\.csv:2: '' is no finite number"),
        (f"1,2\n1,{'2' * 131_073}\n", r"t\.csv:2: field larger than field limit .*; write numbers"),
    ],
)
def test_malformed_text_is_a_clear_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ModelpressError, match=message):
        parse_table(text, "t.csv")


@pytest.mark.parametrize(
    ("text", "channels", "values"),
    [
        ("date,2019,2020\n2016-07-01,1,2\n2016-07-02,3,4\n", ["2019", "2020"], [[1, 2], [3, 4]]),
        ("year,2\n2019,5\n2020,6\n", ["year", "2"], [[2019, 5], [2020, 6]]),
        (",0,1\n0,1.5,2.5\n1,3,4\n", ["0", "1"], [[1.5, 2.5], [3, 4]]),
        (",0,1\n2016-07-01,1,2\n", ["0", "1"], [[1, 2]]),
        (",low,high\n0,1,2\n", ["low", "high"], [[1, 2]]),
        ("day,low\nmon,1\ntue,2\n", ["low"], [[1], [2]]),
        ("mon,1,2\ntue,3,4\n", ["0", "1"], [[1, 2], [3, 4]]),
        ("2016-07-01,0,1\n2016-07-02,3,4\n", ["0", "1"], [[0, 1], [3, 4]]),
    ],
)
def test_first_line_is_a_header_where_its_fields_are_no_row_of_numbers(text: str, channels, values) -> None:
    table = parse_table(text, "t.csv")
    assert table.channels == channels
    assert table.named == (not text.startswith(("mon", "2016")))
    np.testing.assert_array_equal(table.values, values)


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_a_clear_error(text: str) -> None:
    try:
        table = parse_table(text, "t.csv")
    except ModelpressError:
        return
    assert table.values.shape[1] == len(table.channels)
    assert np.isfinite(table.values).all()

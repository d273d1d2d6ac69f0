"""Tables of numbers by time: a CSV text, with or without a header, to an array; torch-free.

The first line is a header if its first field is no number, and
- all others are names (`date,low,high`), or
- the field below the first is a number (`year,2` above `2019,5`) or alone has a digit (`date,2019` above
  `2016-07-01,5`), or
- it is empty and the others are 0, 1 and so on, which pandas writes where nobody named anything (`,0,1`).
Any other first line is a row, so a number missing there is an error, as it is elsewhere.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass

import numpy as np

from components.core.errors import ModelpressError


@dataclass(frozen=True)
class Table:
    """values: float64 (rows, channels); channels: their names, "0", "1" and so on where the text is not `named`."""

    channels: list[str]
    values: np.ndarray
    named: bool = True


def parse_table(text: str, where: str) -> Table:
    """Return the numbers of a CSV text; its first column is left out if it holds dates or its name is empty.

    Raises:
        ModelpressError: at `where`, with the line: a field that is no finite number, a row of another length, no rows,
            a name given twice, what the csv module can't read.
    """
    reader = csv.reader(text.removeprefix("\ufeff").splitlines())  # Excel begins its files with this mark
    try:
        rows = [(number, [field.strip() for field in row]) for number, row in enumerate(reader, 1) if row]
    except csv.Error as error:
        raise ModelpressError(f"{where}:{reader.line_num}: {error}; write numbers with commas between them") from None
    if not rows:
        raise ModelpressError(f"{where}: no rows; give a line of comma-separated numbers for each")
    first = rows[0][1]
    named = len(rows) > 1 and _are_names(first, rows[1][1][0])
    body = rows[1:] if named else rows
    begin = body[0][1][0]
    dates = int(len(body[0][1]) > 1 and (_is_name(begin) or (named and not first[0])))
    count = len(body[0][1]) - dates
    names = first[dates:] if named else [str(i) for i in range(count)]
    if len(names) != count:
        raise ModelpressError(f"{where}: {len(names)} names, but {count} numbers a row; give each column a name")
    if len(set(names)) < count:
        raise ModelpressError(f"{where}: two columns have the same name; give each its own")
    values = np.array([_numbers(row[dates:], count, f"{where}:{number}") for number, row in body])
    return Table(names, values, named)


def _are_names(row: list[str], below: str) -> bool:
    """Say whether a first line is a header; below: the first field of the next one. See the module."""
    head, *others = row
    if all(map(_is_name, others)) and (others or head):
        return not _is_number(head)
    if not head:
        return bool(others) and others == [str(i) for i in range(len(others))]
    return _is_name(head) and (_is_number(below) or bool(re.search(r"\d", below) and not re.search(r"\d", head)))


def _numbers(row: list[str], length: int, where: str) -> list[float]:
    if len(row) != length:
        raise ModelpressError(f"{where}: {len(row)} numbers, the rows before have {length}; give each row as many")
    for field in row:
        if not (_is_number(field) and math.isfinite(float(field))):
            raise ModelpressError(f"{where}: {field[:20]!r} is no finite number")
    return [float(field) for field in row]


def _is_name(field: str) -> bool:
    return bool(field) and not _is_number(field)


def _is_number(field: str) -> bool:
    """Say whether a field is a number, finite or not."""
    try:
        float(field)
    except ValueError:
        return False
    return True

"""Tables of numbers by time: a CSV text, with or without a header, to an array; torch-free."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np

from components.core.errors import ModelpressError


@dataclass(frozen=True)
class Table:
    """values: float64 (rows, channels); channels: their names, "0", "1" and so on where the text has no header."""

    channels: list[str]
    values: np.ndarray


def parse_table(text: str, where: str) -> Table:
    """Return the numbers of a CSV text; its first column is left out where it is no number (a date).

    Raises:
        ModelpressError: at `where`, with the line: a field that is no finite number, a row of another length, no rows.
    """
    rows = [(number, row) for number, row in enumerate(csv.reader(text.splitlines()), 1) if row]
    if not rows:
        raise ModelpressError(f"{where}: no rows; give a line of comma-separated numbers for each")
    has_header = len(rows) > 1 and not _is_number(rows[0][1][-1])
    body = rows[1:] if has_header else rows
    dated = int(len(body[0][1]) > 1 and not _is_number(body[0][1][0]))
    count = len(body[0][1]) - dated
    names = [name.strip() for name in rows[0][1][dated:]] if has_header else [str(i) for i in range(count)]
    if len(names) != count:
        raise ModelpressError(f"{where}: {len(names)} names, but {count} numbers a row; give each column a name")
    return Table(names, np.array([_numbers(row[dated:], count, f"{where}:{number}") for number, row in body]))


def _numbers(row: list[str], length: int, where: str) -> list[float]:
    if len(row) != length:
        raise ModelpressError(f"{where}: {len(row)} numbers, the rows before have {length}; give each row as many")
    for field in row:
        if not _is_number(field):
            raise ModelpressError(f"{where}: {field[:20]!r} is no finite number")
    return [float(field) for field in row]


def _is_number(field: str) -> bool:
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False

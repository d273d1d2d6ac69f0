"""The lines of a UTF-8 file, or one clear line saying where it is not one."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import ModelpressError


def read_lines(path: Path) -> list[str]:
    """Return a file's lines without their ends (LF or CRLF; no other character ends a line).

    Raises:
        ModelpressError: no such file, or bytes that are not UTF-8, with the number of their line.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise ModelpressError(f"{path}: no such file; fetch the dataset again") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise ModelpressError(f"{path}:{line}: not UTF-8 (byte {byte}); save the file as UTF-8") from None
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]

"""`--set key=value`: changes values in params.yaml in place, comments and layout kept, all of them or none."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import ModelpressError, did_you_mean
from components.core.files import write_text
from components.core.params import parse_params, read_params


@dataclass(frozen=True)
class Change:
    """One value that was changed."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


def set_params(path: Path, assignments: Sequence[str], check: Callable[[str], None]) -> list[Change]:
    """Apply `key=value` assignments (values typed as YAML) to a parameter file; return what changed.

    check: raises when the resulting text is no valid parameter file.

    Raises:
        ModelpressError: no such file or no YAML, an assignment without `=`, a key below none that is there, or what
            `check` raises. Nothing is written then.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # never fold a long line
    text = read_params(path)
    try:
        document = yaml.load(text)
    except YAMLError:
        parse_params(text, path)  # says what is wrong with it
        raise
    changes = [_assign(document, assignment) for assignment in assignments]
    stream = io.StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(document, stream)
    check(stream.getvalue())
    if any(change.old != change.new for change in changes):
        write_text(path, stream.getvalue())
    return changes


def _assign(document: Any, assignment: str) -> Change:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, equals, text = assignment.partition("=")
    if not equals:
        raise ModelpressError(f"--set {assignment}: write key=value, e.g. --set recipes.x.train.epochs=3")
    try:
        value = YAML().load(text)  # round-trip: a list in brackets stays one
    except YAMLError:
        raise ModelpressError(f"--set {key}: {text!r} is not a YAML value") from None
    block, last = _block_of(document, key)
    old = block[last] if isinstance(block, list) else block.get(last, "default")
    block[last] = value
    return Change(key, old, value)


def _block_of(document: Any, key: str) -> tuple[Any, Any]:
    """Return the mapping or list that holds a dotted key, and the key's last step there."""
    block, steps = document, key.split(".")
    for place, step in enumerate(steps):
        if isinstance(block, list):
            known: Any = [str(index) for index in range(len(block))]
        else:
            known = block if isinstance(block, dict) else []
        # a mapping's last key, and any key of stages or of a named block, may be one that has a default, and so be new;
        # whether there is such a key, `check` knows
        last = place == len(steps) - 1
        may_be_new = isinstance(block, dict) and (last or place >= (1 if steps[0] == "stages" else 2))
        if step not in known and not may_be_new:
            where = ".".join(steps[: place + 1])
            raise ModelpressError(f"--set {where}: no such key in params.yaml{did_you_mean(step, known)}")
        index: Any = int(step) if isinstance(block, list) else step
        if last:
            return block, index
        block = block[index] if step in known else block.setdefault(step, {})
    raise AssertionError("a dotted key has at least one step")

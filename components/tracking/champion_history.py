"""Which version was live when: every move of the alias `champion` is one tag of the registered model.

The alias is what serves, so it is the truth; the tags say how it got there and where a rollback leads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Literal

PREFIX = "modelpress.champion."


@dataclass(frozen=True)
class Move:
    """The alias went to `version` at `at` (UTC, ISO 8601)."""

    action: Literal["promote", "rollback"]
    version: int
    at: str


def now() -> str:
    """Return the time of a move made now."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_moves(tags: Mapping[str, str]) -> list[Move]:
    """Return the moves kept in a registered model's tags, oldest first."""
    return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(PREFIX)]


def as_tag(move: Move, number: int) -> tuple[str, str]:
    """Return the move as the key and value of a tag; `number` counts from zero and orders them."""
    return f"{PREFIX}{number:06d}", json.dumps(asdict(move))


def live_stack(moves: Sequence[Move], champion: int | None) -> list[int]:
    """Return the versions a rollback can go through: the live one last, the one before it next to last.

    A promotion lays its version on top and a rollback takes the top away. Where the alias (`champion`) stands
    elsewhere, because it was set by hand or a move was killed halfway, the alias wins.
    """
    stack: list[int] = []
    for move in moves:
        if move.action == "promote":
            stack.append(move.version)
        elif len(stack) > 1:
            stack.pop()
    if champion is None:
        return []
    if champion in stack:
        last = len(stack) - stack[::-1].index(champion)
        return stack[:last]
    return [*stack, champion]


def live_periods(moves: Sequence[Move], champion: int | None) -> dict[int, list[dict[str, str | None]]]:
    """Return for each version when it was live: [{"from", "to"}], `to` None while it still is."""
    if len(moves) > 1 and moves[-1].version != champion == moves[-2].version:
        moves = moves[:-1]  # killed between its tag and the alias: it never happened
    periods: dict[int, list[dict[str, str | None]]] = {}
    for move, following in zip_longest(moves, moves[1:]):
        if following is None and move.version != champion:
            continue  # the alias was moved by hand, nobody knows when
        periods.setdefault(move.version, []).append({"from": move.at, "to": following.at if following else None})
    return periods

"""Requests that must not notice: 64 clients while the champion moves, is rolled back, and once is no good.

    python -m benchmarks.serving_swaps          (writes benchmarks/results/serving_swaps.json)

A real MLflow registry and a real server that follows it; the bundles translate word by word, so every answer can be
checked against the version that says it gave it. The clients go on until all moves are through.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.http_load import ask
from components.core.files import write_json
from components.tracking.registry import promote, rollback
from components.tracking.store import connect
from tests.model_server import ModelServer
from tests.word_bundle import MODEL, WORDS, register_word_bundle, translation, write_word_bundle

SWAPS, ROLLBACKS_EVERY = 10, 2  # a rollback after every second swap makes five
PATIENCE_S = 120


def main() -> None:
    """Register, serve, ask and move at once, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="at least")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--swaps", type=int, default=SWAPS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_swaps.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        damaged = register(root, options.swaps + 1)
        with ModelServer(root, f"models:/{MODEL}@champion") as server:
            moves = Moves(root, server, options.swaps, damaged)
            moves.start()
            load = asyncio.run(
                ask(
                    f"{server.url}/predict/{MODEL}",
                    lambda number: {"inputs": [text_of(number)]},
                    options.connections,
                    lambda begun: begun < options.requests or moves.is_alive(),
                    is_right,
                )
            )
            moves.join()
    if moves.error:
        raise SystemExit(f"the moves did not come through: {moves.error!r}")
    result = {**load.figures(), "requests": len(load.latencies) + load.failed, **moves.figures()}
    for timing in ("requests_per_second", "p50_ms", "p99_ms"):
        del result[timing]  # this is about faults; benchmarks.serving is about speed
    write_json(options.out, {**result, "connections": options.connections})
    print(result)


def text_of(number: int) -> str:
    """Return the number-th question."""
    return f"w{number % WORDS} w{number // WORDS % WORDS}"


def is_right(number: int, answer: Any) -> bool:
    """Return whether an answer is what the version that gave it must say."""
    return bool(answer["answers"] == [translation(text_of(number), int(answer["version"]))])


def register(root: Path, versions: int) -> int:
    """Register so many good versions, make the first champion, and add a damaged one; return its number."""
    for version in range(1, versions + 1):
        assert register_word_bundle(root, write_word_bundle(root / "made", version)) == version
    made = write_word_bundle(root / "made", versions + 1)
    number = register_word_bundle(root, made)
    (made / "translate.onnx").write_bytes((made / "translate.onnx").read_bytes()[:-1] + b"\xff")
    client = connect(root)
    client.log_artifact(client.get_model_version(MODEL, str(number)).run_id, str(made / "translate.onnx"), "bundle")
    shutil.rmtree(made)
    promote(root, MODEL, 1, force=True)
    return number


class Moves(threading.Thread):
    """Moves the champion and waits until each move is live."""

    def __init__(self, root: Path, server: ModelServer, swaps: int, damaged: int) -> None:
        super().__init__(daemon=True)
        self._root, self._server, self._swaps, self._damaged = root, server, swaps, damaged
        self._live: dict[str, list[float]] = {"promote": [], "rollback": []}
        self.refused = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Swap, roll back after every second swap, and offer the damaged version halfway."""
        try:
            for number in range(1, self._swaps + 1):
                self._moved("promote", lambda number=number: promote(self._root, MODEL, number + 1, force=True))
                if number == self._swaps // 2:
                    self._offer_damaged(number + 1)
                if number % ROLLBACKS_EVERY == 0:
                    self._moved("rollback", lambda: rollback(self._root, MODEL))
        except BaseException as error:
            self.error = error

    def figures(self) -> dict[str, Any]:
        """Return how many moves there were, and the seconds from the command's end until they were live."""
        return {
            "swaps": len(self._live["promote"]),
            "rollbacks": len(self._live["rollback"]),
            "damaged_versions_refused": self.refused,
            **{
                f"{action}_live_after_s": {"median": round(statistics.median(times), 2), "max": round(max(times), 2)}
                for action, times in self._live.items()
                if times
            },
        }

    def _moved(self, action: str, move: Callable[[], dict[str, Any]]) -> None:
        version = str(move()["version"])
        self._live[action].append(self._wait(lambda: self._server.metric("modelpress_version_live", version=version)))

    def _offer_damaged(self, live: int) -> None:
        client = connect(self._root)
        client.set_registered_model_alias(MODEL, "champion", str(self._damaged))
        self._wait(lambda: self._server.metric("modelpress_failed_loads_total", version=str(self._damaged)))
        assert self._server.metric("modelpress_version_live", version=str(live)) == 1
        client.set_registered_model_alias(MODEL, "champion", str(live))
        self.refused += 1

    def _wait(self, condition: Callable[[], float]) -> float:
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > PATIENCE_S:
                raise TimeoutError("not live")
            time.sleep(0.05)
        return time.monotonic() - began


if __name__ == "__main__":
    main()

"""A database killed while it is made is made again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from components.tracking.store import DATABASE, connect

CONNECT = (
    "import sys; from pathlib import Path; from components.tracking.store import connect; connect(Path(sys.argv[1]))"
)


def test_database_is_made_anew_when_its_first_maker_was_killed_half_way(tmp_path: Path) -> None:
    begun = tmp_path / f"{DATABASE}.new"
    maker = subprocess.Popen([sys.executable, "-c", CONNECT, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."})
    ends = time.monotonic() + 60
    while not (begun.exists() and begun.stat().st_size) and time.monotonic() < ends:
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert begun.exists()
    assert not (tmp_path / DATABASE).exists()
    client = connect(tmp_path)
    client.create_experiment("after")
    assert not begun.exists()
    assert [e.name for e in connect(tmp_path).search_experiments(filter_string="name = 'after'")] == ["after"]

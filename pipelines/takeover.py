"""One flow at a time in a folder, and taking over after one that was killed: its processes, DVC's notes about them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from components.core.errors import ModelpressError
from components.core.files import write_text
from pipelines.dvc_access import locked_repo
from pipelines.stage_host import FLOW_ROOT_VARIABLE

LEFTOVER_SECONDS = 5.0  # processes of a killed flow end by themselves; after this they are killed


@contextmanager
def only_flow(root: Path, flow_run: str) -> Iterator[str | None]:
    """Hold the folder's flow lock, after ending what a killed flow left; yield that one's flow run, if any.

    flow_run: Prefect's, or a word for what else runs stages.

    Raises:
        ModelpressError: another flow runs in this folder.
    """
    with no_flow_beside(root) as file:
        abandoned = Path(file.name).read_text().partition(" ")[2]  # a flow that ends by itself leaves the file empty
        _rewrite(file, f"{os.getpid()} {flow_run}")
        end_leftovers(root)
        if _paths_in_use(root):
            clear_stale_rwlock(root)
        try:
            yield abandoned or None
        finally:
            _rewrite(file, "")


@contextmanager
def no_flow_beside(root: Path) -> Iterator[TextIO]:
    """Hold the folder's flow lock and nothing more: while params.yaml is written, say. Yield its file.

    Raises:
        ModelpressError: another flow runs in this folder.
    """
    path = root / ".modelpress" / "flow.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = path.read_text().partition(" ")[0]
            raise ModelpressError(
                f"{root}: another run is going on here (process {owner}); wait for it or stop it"
            ) from None
        yield file


def _rewrite(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def end_leftovers(root: Path) -> None:
    """End all processes that a killed flow of this folder left behind."""
    import psutil

    me = psutil.Process()
    own = {process.pid for process in (me, *me.parents(), *me.children(recursive=True))}
    leftovers = [process for process in psutil.process_iter() if process.pid not in own and _belongs_to(process, root)]
    _, alive = psutil.wait_procs(leftovers, timeout=LEFTOVER_SECONDS) if leftovers else ([], [])
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=LEFTOVER_SECONDS)


def _belongs_to(process: Any, root: Path) -> bool:
    import psutil

    try:
        return bool(process.environ().get(FLOW_ROOT_VARIABLE) == str(root))
    except (psutil.Error, OSError):  # another user's, or gone
        return False


def _paths_in_use(root: Path) -> bool:
    """Return whether DVC's list of paths in use names any, or cannot be read."""
    try:
        return any(json.loads((root / ".dvc" / "tmp" / "rwlock").read_text()).values())
    except FileNotFoundError:
        return False
    except ValueError:
        return True


def clear_stale_rwlock(root: Path) -> None:
    """Remove dead entries from DVC's list of paths in use, or the list itself where a kill left half of it.

    DVC drops an entry whose process is gone, but not when its number has been given to another process since, and
    it stops at a list it cannot read. DVC's lock is held here, so a live entry is a process that runs a stage.
    """
    with locked_repo(root) as repo:
        path = Path(repo.tmp_dir) / "rwlock"
        try:
            noted = json.loads(path.read_text())
        except FileNotFoundError:
            return
        except ValueError:
            path.unlink()
            return
        write = {key: entry for key, entry in noted.get("write", {}).items() if _is_live(entry)}
        read = {key: [entry for entry in entries if _is_live(entry)] for key, entries in noted.get("read", {}).items()}
        write_text(path, json.dumps({"write": write, "read": {key: live for key, live in read.items() if live}}))


def _is_live(entry: dict[str, Any]) -> bool:
    """Return whether the process of an entry still runs the command line it was noted with."""
    import psutil

    program, *arguments = entry["cmd"].split()
    if program.endswith("stage_process.py"):  # a flow's, and this is the only flow
        return False
    try:
        command = " ".join(psutil.Process(entry["pid"]).cmdline())
    except psutil.Error:
        return False
    return entry["pid"] != os.getpid() and command.endswith(" ".join(arguments))

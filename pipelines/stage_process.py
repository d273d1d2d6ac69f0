"""The process beside a flow in which stages run: it imports DVC once, then forks for each stage.

A fork costs 10 ms where a new interpreter with DVC costs 500. Each fork is a session of its own, reproduces one stage
and answers with one JSON line. All die with the flow, however it ends: they hold the reading end of a pipe whose
writing end only the flow has. A fork told to stop ends its command first and never commits it; a fork that is
committing to dvc.lock finishes that.

Run as: python -m pipelines.stage_process ROOT REQUEST_SOCKET LIFELINE
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.dvc_access import (
    command_exit_code,
    commit_files_atomically,
    lock_entry,
    locked_repo,
    note_inputs_before_commands,
    open_repo,
    root_cause,
    wrap_commands,
)

GRACE_SECONDS = 2.0  # between asking a stopped stage's command to end and killing it
MAX_REQUEST_BYTES = 1 << 16
USER_ERROR_EXIT = 2
PULL_VARIABLE = "MODELPRESS_PULL"  # set where DVC's remote may hold what this machine lacks: restore before computing


def main() -> None:
    """Warm up, then fork for each request until the flow closes the socket."""
    root, requests, lifeline = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])
    _warm_up(root)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; the flow learns the end from the answer's pipe
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 2)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            output, answer = descriptors
            _run_fork(root, json.loads(message), output, answer, lifeline)
        for descriptor in descriptors:
            os.close(descriptor)


def _warm_up(root: Path) -> None:
    """Import what a stage needs, without starting a thread: threads do not survive a fork."""
    import tqdm  # type: ignore[import-untyped]

    tqdm.tqdm.monitor_interval = 0
    logging.getLogger("dvc").setLevel(logging.WARNING)
    commit_files_atomically()
    note_inputs_before_commands()
    with locked_repo(root) as repo:
        _ = repo.index.graph
    if threading.active_count() != 1:
        raise RuntimeError(f"threads in the process that forks: {threading.enumerate()}")


def _run_fork(root: Path, request: dict[str, Any], output: int, answer: int, lifeline: int) -> None:
    """Become the stage's process: own session, output into the flow's pipe, one JSON line, gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.write(answer, f"{os.getpid()}\n".encode())
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.update(request["env"])
    stop = CommandStop()
    signal.signal(signal.SIGTERM, lambda *_: stop.request())
    threading.Thread(target=_stop_with_flow, args=(lifeline, stop), daemon=True).start()
    os.chdir(root)
    try:
        result = reproduce(root, request["stage"], request["force"], stop)
        os.write(answer, json.dumps(result).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)  # an orderly interpreter exit takes 0.1 s


def _stop_with_flow(lifeline: int, stop: CommandStop) -> None:
    select.select([lifeline], [], [])  # readable only at its end: the flow is gone
    stop.request()


class CommandStop:
    """Ends the stage's command: asks it and all it started, waits, kills."""

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Begin to end the command; returns at once (it is called from a signal handler)."""
        if not self.requested:
            self.requested = True
            threading.Thread(target=self._end_command, daemon=True).start()

    @staticmethod
    def _end_command() -> None:
        import psutil

        me = psutil.Process()
        while True:  # the command may be just about to start
            processes = me.children(recursive=True)
            for process in processes:
                _quietly(process.terminate)
            _, alive = psutil.wait_procs(processes, timeout=GRACE_SECONDS)
            for process in alive:
                _quietly(process.kill)
            time.sleep(0.05)


def _quietly(act: Callable[[], None]) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess):
        act()


def reproduce(root: Path, name: str, force: bool, stop: CommandStop) -> dict[str, Any]:
    """Reproduce one stage; return its JSON answer.

    `status` is executed, restored (from DVC's run cache, with MODELPRESS_PULL the remote's too), unchanged or failed;
    `seconds` what the commands took, `record` what tracking keeps, `error` one line, `retry` whether another attempt
    can help.
    """
    seconds: list[float] = []
    wrap_commands(lambda run: _timed_command(run, seconds, stop))
    try:
        repo = open_repo(root)
        stages = repo.reproduce(targets=[name], single_item=True, force=force, pull=_may_pull(repo, name))
        status = "unchanged" if not stages else "executed" if seconds else "restored"
        return {"status": status, "seconds": sum(seconds), "record": _record(stages[0]) if stages else {}}
    except Exception as error:
        cause = root_cause(error)
        return {"status": "failed", "seconds": sum(seconds), "error": str(cause), "retry": _worth_a_retry(cause)}


def _may_pull(repo: Any, name: str) -> bool:
    """Return whether the remote can hold what the stage makes; what DVC does not cache it would take for made."""
    return bool(os.environ.get(PULL_VARIABLE)) and all(out.use_cache for out in repo.stage.collect(name)[0].outs)


def _worth_a_retry(cause: BaseException) -> bool:
    """Return whether the same attempt may succeed later: not after a user's error, nor what DVC finds wrong itself."""
    from dvc.lock import LockError

    exit_code = command_exit_code(cause)
    if exit_code is not None:
        return exit_code != USER_ERROR_EXIT
    return isinstance(cause, LockError | OSError)


def _timed_command(run: Callable[..., None], seconds: list[float], stop: CommandStop) -> Callable[..., None]:
    def timed(executable: str, command: str, **options: Any) -> None:
        from dvc.stage.exceptions import StageCmdFailedError

        started = time.perf_counter()
        print(f"$ {command}", flush=True)
        try:
            run(executable, command, **options)
        finally:
            seconds.append(time.perf_counter() - started)
        if stop.requested:  # a command may end with 0 when told to stop: its outputs are not to be committed
            raise StageCmdFailedError(command, -signal.SIGTERM)

    return timed


def _record(stage: Any) -> dict[str, Any]:
    """Return what tracking keeps of a reproduced stage; paths are relative to the root."""
    from dvc.utils import relpath

    root = stage.repo.root_dir
    outs = [(relpath(out.fs_path, root), out) for out in stage.outs]
    entry = json.dumps(lock_entry(stage), sort_keys=True, default=str)
    return {
        "command": stage.cmd if isinstance(stage.cmd, str) else "\n".join(stage.cmd),
        "lock_hash": hashlib.sha256(entry.encode()).hexdigest(),
        "params": {key: value for dep in stage.params for key, value in (dep.hash_info.value or {}).items()},
        "metrics": [path for path, out in outs if out.metric],
        "plots": [path for path, out in outs if out.plot],
        "artifacts": [kept for path, _ in outs for kept in _worth_keeping(root, path)],
    }


def _worth_keeping(root: str, path: str) -> list[str]:
    """Return what is small enough to keep beside the metrics: a report's folder, a bundle's model card."""
    if os.path.isfile(os.path.join(root, path, "index.html")):
        return [path]
    card = os.path.join(path, "MODEL_CARD.md")
    return [card] if os.path.isfile(os.path.join(root, card)) else []


if __name__ == "__main__":
    main()

"""The flow's side of running stages: asks the forking process for one, streams its lines, ends it in time.

Kept free of Prefect; its locks live in instances, never in a module (`serve()` pickles the flow with its globals).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FLOW_ROOT_VARIABLE = "MODELPRESS_FLOW_ROOT"  # marks every process of a flow, so that a later flow finds leftovers
STOP_SECONDS = 10.0  # a stopped stage's process gets this long to end its command and finish a commit
LOOK_SECONDS = 0.02
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class StageResult:
    """How one attempt at a stage ended.

    seconds: what its commands took. error: one line where it failed. retry: whether another attempt can help.
    record: what tracking keeps (see stage_process).
    """

    status: Literal["executed", "restored", "unchanged", "failed"]
    seconds: float = 0.0
    error: str = ""
    retry: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)


class StageHost:
    """Runs stages of one DVC repository in processes of their own; safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # never taken by `stop`, which runs in signal handlers
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._stages: set[_RunningStage] = set()
        self.stopped = False

    def warm_up(self) -> None:
        """Start the forking process now, so that the first stage does not wait for it."""
        with self._lock:
            self._ensure_process()

    def run(
        self,
        stage: str,
        on_line: Callable[[str], None],
        *,
        env: Mapping[str, str] | None = None,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> StageResult:
        """Reproduce one stage, calling `on_line` for each line it prints; never raises for the stage's own failure."""
        running = self._request({"stage": stage, "force": force, "env": {"PYTHONUNBUFFERED": "1", **(env or {})}})
        if running is None:
            return StageResult("failed", error="stopped before it started")
        try:
            return running.follow(on_line, timeout_s)
        finally:
            self._stages.discard(running)

    def stop(self) -> None:
        """End all running stages' commands and start no more; a second call kills."""
        again, self.stopped = self.stopped, True
        for stage in list(self._stages):
            stage.end(signal.SIGKILL if again else signal.SIGTERM)

    def close(self) -> None:
        """End the forking process, and with it whatever still runs: asked first, killed if it takes too long."""
        if not self.stopped:
            self.stop()
        ends = time.monotonic() + STOP_SECONDS
        try:
            while self._stages and time.monotonic() < ends:
                time.sleep(LOOK_SECONDS)
        finally:
            self.stop()
            self._end_process()

    def _end_process(self) -> None:
        with self._lock:
            if self._process is None:
                return
            assert self._requests is not None
            assert self._lifeline is not None
            self._requests.close()
            os.close(self._lifeline)
            self._process.wait()
            self._process = None

    def _request(self, request: dict[str, Any]) -> _RunningStage | None:
        with self._lock:
            if self.stopped:
                return None
            self._ensure_process()
            assert self._requests is not None
            output, output_end = os.pipe()
            answer, answer_end = os.pipe()
            try:
                socket.send_fds(self._requests, [json.dumps(request).encode()], [output_end, answer_end])
            finally:
                os.close(output_end)
                os.close(answer_end)
            running = _RunningStage(output, answer)  # waits for its pid: one request at a time is on its way
            self._stages.add(running)
        if self.stopped:  # a signal came in between
            running.end(signal.SIGTERM)
        return running

    def _ensure_process(self) -> None:
        if not self.stopped and (self._process is None or self._process.poll() is not None):
            self._start_process()

    def _start_process(self) -> None:
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        command = [
            sys.executable,
            "-m",
            "pipelines.stage_process",
            str(self._root),
            str(theirs.fileno()),
            str(lifeline),
        ]
        code_root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [code_root, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            command,
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), lifeline),
            start_new_session=True,  # Ctrl-C reaches the flow alone, which then ends the stages in order
            env={**os.environ, "PYTHONPATH": path, FLOW_ROOT_VARIABLE: str(self._root)},
        )
        theirs.close()
        os.close(lifeline)
        self._requests = ours


class _RunningStage:
    """One fork: its output, its answer and its process group."""

    def __init__(self, output: int, answer: int) -> None:
        self._output = output
        self._answer = answer
        self._answered = b""
        self._partial_line = b""
        self._end_reason = ""
        self._kill_at: float | None = None
        self._finished = False
        self._pid = self._read_pid()

    def follow(self, on_line: Callable[[str], None], timeout_s: float | None) -> StageResult:
        """Pass on lines until the fork has answered or died."""
        deadline = time.monotonic() + timeout_s if timeout_s else None
        try:
            with selectors.DefaultSelector() as selector:
                for descriptor in (self._output, self._answer):
                    selector.register(descriptor, selectors.EVENT_READ)
                while not self._finished:
                    self._keep_time(deadline, timeout_s)
                    for key, _ in selector.select(timeout=0.5):
                        self._take(key.fd, selector, on_line)
            return self._result()
        finally:
            self._kill_group()  # what a command left running in the background, or all of it when the flow is unwound
            self._drain(on_line)
            os.close(self._output)
            os.close(self._answer)

    def end(self, how: signal.Signals, reason: str = "stopped") -> None:
        """Ask the fork to end its command, or kill it with all it started; safe in a signal handler."""
        self._end_reason = self._end_reason or reason
        self._kill_at = self._kill_at or time.monotonic() + STOP_SECONDS
        if self._pid and not self._finished:
            if how == signal.SIGKILL:
                self._kill_group()
            else:
                _signal_quietly(os.kill, self._pid, how)

    def _read_pid(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._answer, 1)
            if not byte:  # the forking process died
                return 0
            line += byte
        return int(line)

    def _keep_time(self, deadline: float | None, timeout_s: float | None) -> None:
        now = time.monotonic()
        if deadline and now > deadline and not self._end_reason:
            self.end(signal.SIGTERM, f"took longer than its limit of {timeout_s:g} s")
        if self._kill_at and now > self._kill_at:
            self._kill_group()

    def _take(self, descriptor: int, selector: selectors.BaseSelector, on_line: Callable[[str], None]) -> None:
        data = os.read(descriptor, CHUNK_BYTES)
        if descriptor == self._answer:
            self._answered += data
            self._finished = not data
        elif data:
            self._pass_on(data, on_line)
        else:
            selector.unregister(descriptor)

    def _pass_on(self, data: bytes, on_line: Callable[[str], None]) -> None:
        *lines, self._partial_line = (self._partial_line + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                on_line(text)

    def _drain(self, on_line: Callable[[str], None]) -> None:
        os.set_blocking(self._output, False)
        try:
            while data := os.read(self._output, CHUNK_BYTES):
                self._pass_on(data, on_line)
        except BlockingIOError:  # a daemon outside the group holds the pipe open
            pass
        self._pass_on(b"\n", on_line)

    def _kill_group(self) -> None:
        if self._pid:
            _signal_quietly(os.killpg, self._pid, signal.SIGKILL)

    def _result(self) -> StageResult:
        result = StageResult(**json.loads(self._answered)) if self._answered else None
        if self._end_reason and (result is None or result.status == "failed"):
            return StageResult("failed", error=self._end_reason, retry=self._end_reason != "stopped")
        return result or StageResult("failed", error="its process was killed (out of memory?)", retry=True)


def _signal_quietly(send: Callable[[int, int], None], pid: int, how: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone already
        send(pid, how)

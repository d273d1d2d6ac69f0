"""The Prefect server a run reports to: the one it is told, the one `modelpress ui` started, or one of its own.

A run's own server is a child that ends with it, even after kill -9 (Prefect's own ephemeral server does not), and it
starts while this process still imports Prefect. Nothing here imports Prefect.

Run as: python -m pipelines.prefect_server SOCKET LIFELINE (two inherited file descriptors)
"""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from components.core.errors import ModelpressError
from pipelines.stage_host import FLOW_ROOT_VARIABLE

START_SECONDS = 120.0  # the first start also creates the database
HOST = "127.0.0.1"
DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",  # DVC's cache is the only one
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the progress view owns the terminal; the API gets all
}
_TEMPORARY = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def set_prefect_defaults(root: Path) -> None:
    """Set Prefect's environment where the user has not; call it before Prefect is imported."""
    os.environ.setdefault("PREFECT_HOME", str(root / ".modelpress" / "prefect"))
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)


def known_server(root: Path) -> str | None:
    """Return the API address of PREFECT_API_URL, or of a `modelpress ui` that runs in this folder.

    Raises:
        ModelpressError: PREFECT_API_URL is set and nobody answers there.
    """
    told = os.environ.get("PREFECT_API_URL")
    if told:
        if not _answers(told):
            raise ModelpressError(f"PREFECT_API_URL: no server answers at {told}; start it, or unset the variable")
        return told
    try:
        url = str(json.loads((root / ".modelpress" / "servers.json").read_text())["prefect"])
    except (OSError, ValueError, KeyError):
        return None
    return url if _answers(url) else None


class TemporaryServer:
    """A Prefect server for one run; it ends when this process ends, after Prefect has sent it the last logs."""

    def __init__(self, root: Path) -> None:
        listening = _listen(8200)  # here already: no other run's server can come to answer at this address
        self.url = f"http://{HOST}:{listening.getsockname()[1]}/api"
        lifeline, self._lifeline = os.pipe()
        code_root = str(Path(__file__).resolve().parent.parent)
        self._log = root / ".modelpress" / "prefect-server.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.prefect_server", str(listening.fileno()), str(lifeline)],
                cwd=code_root,
                pass_fds=(listening.fileno(), lifeline),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **_TEMPORARY, FLOW_ROOT_VARIABLE: str(root)},
            )
        os.close(lifeline)
        listening.close()
        atexit.register(self.stop)  # before Prefect registers its own: the last to run

    def wait(self) -> None:
        """Return once it answers.

        Raises:
            ModelpressError: it ended or did not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not responds(f"{self.url}/health"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ModelpressError(
                    f"Prefect's server did not start, see {self._log}; "
                    "start one with `modelpress ui`, or set PREFECT_API_URL"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()


def free_port(first: int) -> int:
    """Return the first port from `first` on that nobody listens at on this machine's loopback address."""
    with _listen(first) as listening:
        port: int = listening.getsockname()[1]
        return port


def _listen(first: int) -> socket.socket:
    """Return a socket that listens at the first free port from `first` on."""
    for port in range(first, first + 200):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen(128)  # two sockets may be bound to a port, but only one may listen
        except OSError:
            listening.close()
            continue
        return listening
    raise ModelpressError(f"no free port between {first} and {first + 199}")


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except (OSError, ValueError):
        return False
    return True


def responds(url: str) -> bool:
    """Return whether a GET of an address is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:  # urllib.error.URLError is one
        return False


def main() -> None:
    """Serve until told to end or until the run that started us is gone."""
    listening, lifeline = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])

    def end_with_the_run() -> None:
        select.select([lifeline], [], [])
        os._exit(0)

    threading.Thread(target=end_with_the_run, daemon=True).start()
    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

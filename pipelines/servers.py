"""`modelpress ui`: the MLflow and Prefect servers of this folder, on this machine's loopback address only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ModelpressError
from components.core.files import write_json
from pipelines.prefect_server import HOST, START_SECONDS, free_port, responds, set_prefect_defaults

MLFLOW_PORT = 5000
PREFECT_PORT = 4200
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven idle processes of 250 MB otherwise
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Server:
    """A user interface: its address, and its process when it is ours."""

    name: str
    url: str
    process: subprocess.Popen[bytes] | None = None


@contextmanager
def user_interfaces(root: Path) -> Iterator[list[Server]]:
    """Start both servers, or name those set by MLFLOW_TRACKING_URI and PREFECT_API_URL; end ours at the end.

    While they run, `.modelpress/servers.json` tells runs and schedules in this folder where Prefect is.

    Raises:
        ModelpressError: one did not start.
    """
    set_prefect_defaults(root)
    (root / ".modelpress").mkdir(exist_ok=True)
    note = root / ".modelpress" / "servers.json"
    servers: list[Server] = []
    try:
        servers.append(_mlflow(root))
        servers.append(_prefect(root))
        for server, health in zip(servers, ("/health", "/api/health"), strict=True):
            _wait(root, server, health)
        write_json(note, {"prefect": f"{servers[1].url}/api", "mlflow": servers[0].url})
        yield servers
    finally:
        note.unlink(missing_ok=True)
        _end(servers)


def _mlflow(root: Path) -> Server:
    told = os.environ.get("MLFLOW_TRACKING_URI", "")
    if told.startswith("http"):
        return Server("MLflow", told)
    from components.tracking.store import ARTIFACTS, connect, tracking_uri

    connect(root)  # creates the database under its lock: a run may start beside us
    port = free_port(MLFLOW_PORT)
    command = ["mlflow", "server", "--host", HOST, "--port", str(port), "--backend-store-uri", tracking_uri(root),
               "--artifacts-destination", str(root / ARTIFACTS), "--workers", "1"]  # fmt: skip
    return Server("MLflow", f"http://{HOST}:{port}", _start(root, "mlflow", command, _MLFLOW_ENVIRONMENT))


def _prefect(root: Path) -> Server:
    told = os.environ.get("PREFECT_API_URL")
    if told:
        return Server("Prefect", told.removesuffix("/api"))
    port = free_port(PREFECT_PORT)
    url = f"http://{HOST}:{port}"
    command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
    environment = {"PREFECT_API_URL": f"{url}/api", "PREFECT_UI_API_URL": f"{url}/api"}
    return Server("Prefect", url, _start(root, "prefect", command, environment))


def _start(root: Path, name: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).parent / command[0])  # of this environment, whatever PATH says
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with (root / ".modelpress" / f"{name}-ui.log").open("w") as log:
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=root,
            env={**os.environ, "PATH": path, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(root: Path, server: Server, health: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.process and not responds(server.url + health):
        if server.process.poll() is not None or time.monotonic() > deadline:
            log = root / ".modelpress" / f"{server.name.lower()}-ui.log"
            raise ModelpressError(f"the {server.name} server did not start; see {log}")
        time.sleep(0.2)


def _end(servers: list[Server]) -> None:
    """End our servers with the workers they started."""
    import psutil

    ours = [
        psutil.Process(server.process.pid) for server in servers if server.process and server.process.poll() is None
    ]
    processes = [process for server in ours for process in (server, *server.children(recursive=True))]
    for process in processes:
        if process.is_running():
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        process.kill()

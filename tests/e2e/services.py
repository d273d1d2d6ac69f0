"""The compose file's services as processes on loopback: its own commands and environments, other addresses."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from pipelines.prefect_server import free_port
from tests.workspace import REPOSITORY

SECRETS = {"POSTGRES_PASSWORD": "a-password", "S3_SECRET_KEY": "a-secret-key", "MODELPRESS_TOKEN": "a-token"}
POSTGRES = Path("/usr/lib/postgresql")
START_SECONDS = 240.0


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None where it is not installed."""
    found = shutil.which("initdb")
    newest = sorted(POSTGRES.glob("*/bin"), key=lambda path: int(path.parent.name))
    return Path(found).parent if found else newest[-1] if newest else None


class Services:
    """Starts services by their names in compose.yaml; ends them all when its block ends."""

    def __init__(self, folder: Path) -> None:
        self.compose: dict[str, Any] = yaml.safe_load((REPOSITORY / "deploy/docker/compose.yaml").read_text())
        self.folder = folder
        self.ports = {name: free_port(20000 + 100 * n) for n, name in enumerate(self.compose["services"])}
        self._running: list[subprocess.Popen[bytes]] = []
        self._database = Path(tempfile.mkdtemp(prefix="modelpress-postgres-"))  # PostgreSQL's user can enter it

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            self.end(process)
        shutil.rmtree(self._database, ignore_errors=True)

    def url(self, name: str) -> str:
        """Return where a service listens."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def here(self, text: str) -> str:
        """Return a text of the compose file with the tests' secrets and addresses."""
        text = re.sub(r"\$\{(\w+)(:?[-?][^}]*)?\}", lambda match: SECRETS.get(match[1], "tiny"), text)
        for name, port in self.ports.items():
            text = re.sub(rf"\b{name}:\d+", f"127.0.0.1:{port}", text)
        return text

    def environment(self, name: str, extra: Mapping[str, str] = {}) -> dict[str, str]:
        """Return a service's environment over this process's; this Python comes first on PATH."""
        own = {
            key: self.here(str(value)) for key, value in self.compose["services"][name].get("environment", {}).items()
        }
        for key in ("HOME", "PREFECT_HOME"):
            if key in own:
                own[key] = str(self.folder / key.lower())
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", **own, **extra}

    def start(
        self, name: str, command: list[str] | None = None, cwd: Path | None = None, **extra: str
    ) -> subprocess.Popen[bytes]:
        """Start a service's command, or another in its environment, with its log in `folder`."""
        words = [self.here(word) for word in command or self.compose["services"][name]["command"]]
        words = [re.sub(r"^--host=.*", "--host=127.0.0.1", word) for word in words]
        words = [re.sub(r"^--port=.*", f"--port={self.ports[name]}", word) for word in words]
        return self._start(name, words, cwd or self.folder, self.environment(name, extra))

    def log(self, name: str) -> str:
        """Return what a service has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start_postgres(self) -> None:
        """Start PostgreSQL with the compose file's user, database, and second database."""
        import psycopg2

        programs, service = postgres_programs(), self.compose["services"]["postgres"]["environment"]
        assert programs is not None
        user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name  # it refuses to be root
        secret = self._database / "password"
        secret.write_text(SECRETS["POSTGRES_PASSWORD"])
        for path in (self._database, secret):
            shutil.chown(path, user)
        data = self._database / "data"
        words = [str(programs / "initdb"), "-D", str(data), "-U", service["POSTGRES_USER"]]
        words += [f"--pwfile={secret}", "-A", "scram-sha-256"]
        become = user if os.getuid() == 0 else None
        subprocess.run(words, user=become, cwd=self._database, check=True, capture_output=True)
        words = [
            str(programs / "postgres"),
            "-D",
            str(data),
            "-p",
            str(self.ports["postgres"]),
            "-h",
            "127.0.0.1",
            "-k",
            str(data),
        ]
        self._start("postgres", words, self._database, None, become)
        wait(lambda: self.query("postgres", "SELECT 1"), psycopg2.OperationalError)
        self.query("postgres", f"CREATE DATABASE {service['POSTGRES_DB']}")
        self.query("postgres", self.compose["configs"]["second-database"]["content"])

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, run as the compose file's user."""
        import psycopg2

        user = self.compose["services"]["postgres"]["environment"]["POSTGRES_USER"]
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.ports["postgres"],
            user=user,
            password=SECRETS["POSTGRES_PASSWORD"],
            dbname=database,
        )
        try:
            connection.autocommit = True  # CREATE DATABASE stands in no transaction
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """End a process as compose does: ask, and insist after a while."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def _start(
        self, name: str, words: list[str], cwd: Path, env: Mapping[str, str] | None, user: str | None = None
    ) -> subprocess.Popen[bytes]:
        program = shutil.which(words[0], path=env["PATH"] if env else None) or words[0]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [program, *words[1:]], cwd=cwd, env=env, user=user, stdout=log, stderr=log, start_new_session=True
            )
        self._running.append(process)
        return process


def wait(done: Callable[[], Any], *expected: type[BaseException], seconds: float = START_SECONDS) -> Any:
    """Return the first true answer; errors of the expected kinds mean not yet."""
    until = time.monotonic() + seconds
    while True:
        try:
            if answer := done():
                return answer
        except expected:
            pass
        assert time.monotonic() < until, f"not within {seconds:.0f} s"
        time.sleep(0.5)

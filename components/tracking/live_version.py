"""Which version an alias means right now, cheaply enough to ask every second.

MLflow's client costs seconds and 200 MB to import. A server that follows `champion` therefore asks the tracking
server's REST API, or reads the local SQLite file; only another store, or a file laid out in a way not known here, takes
the client.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import ModelpressError
from components.tracking.store import connect, tracking_uri, without_passwords

TIMEOUT_S = 5.0
_VERSION_OF_ALIAS = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
_DIGEST = "SELECT value FROM model_version_tags WHERE name = ? AND version = ? AND key = 'bundle_sha256'"


@dataclass(frozen=True)
class LiveVersion:
    """A registered version and the sha256 of its bundle's manifest."""

    version: int
    bundle_sha256: str


class LiveVersions:
    """Reads one store again and again; for one thread."""

    def __init__(self, root: Path) -> None:
        self._root, self._uri = root, tracking_uri(root)
        self._client: Any = None

    def read(self, name: str, alias: str | None, version: int | None) -> LiveVersion | None:
        """Return what the alias, or the version of that number, is now; None where there is no such thing.

        Raises:
            ModelpressError: the store can't be read now.
        """
        try:
            if self._client is None and self._uri.startswith("sqlite:///"):
                return self._read_file(name, alias, version)
            if self._uri.startswith(("http://", "https://")):
                return self._ask_server(name, alias, version)
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):  # locked or unreadable: another time
                raise self._unreachable(error) from None
        return self._ask_client(name, alias, version)

    def _read_file(self, name: str, alias: str | None, version: int | None) -> LiveVersion | None:
        path = self._uri.removeprefix("sqlite:///").split("?")[0]
        if not Path(path).is_file():
            return None
        connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=TIMEOUT_S)
        try:
            if alias is not None:
                row = connection.execute(_VERSION_OF_ALIAS, (name, alias)).fetchone()
                version = int(row[0]) if row else None
            row = connection.execute(_DIGEST, (name, version)).fetchone()
        finally:
            connection.close()
        return LiveVersion(version, row[0]) if version is not None and row else None

    def _ask_server(self, name: str, alias: str | None, version: int | None) -> LiveVersion | None:
        import requests

        path = "registered-models/alias" if alias is not None else "model-versions/get"
        query = {"name": name, **({"alias": alias} if alias is not None else {"version": str(version)})}
        url = f"{self._uri.rstrip('/')}/api/2.0/mlflow/{path}"
        try:
            answer = requests.get(url, params=query, timeout=TIMEOUT_S, **_credentials())
            body = answer.json()
        except requests.RequestException as error:  # JSON errors are of this family too
            raise self._unreachable(error) from None
        if answer.status_code in (400, 404) and "error_code" in body:
            return None
        if answer.status_code != 200:
            raise self._unreachable(body.get("message", answer.status_code))
        found = body["model_version"]
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        return LiveVersion(int(found["version"]), tags.get("bundle_sha256", ""))

    def _ask_client(self, name: str, alias: str | None, version: int | None) -> LiveVersion | None:
        self._client = self._client or connect(self._root)
        from mlflow.exceptions import MlflowException

        try:
            if alias is not None:
                found = self._client.get_model_version_by_alias(name, alias)
            else:
                found = self._client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise self._unreachable(error) from None
        return LiveVersion(int(found.version), found.tags.get("bundle_sha256", ""))

    def _unreachable(self, reason: object) -> ModelpressError:
        first_line = (str(reason).splitlines() or [""])[0]
        return ModelpressError(without_passwords(f"model registry {self._uri}: {first_line}"))


def _credentials() -> dict[str, Any]:
    """Return what MLflow's own client would send: a token, or a user and password."""
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if token:
        return {"headers": {"Authorization": f"Bearer {token}"}}
    return {"auth": (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))} if user else {}

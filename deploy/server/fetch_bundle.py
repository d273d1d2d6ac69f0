"""Fetch a registered bundle in a process of its own: MLflow's import would stop the server for seconds.

python -m deploy.server.fetch_bundle ROOT models:/NAME/3       prints the verified bundle's folder
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from components.core.errors import ModelpressError

TIMEOUT_S = 600


def fetch_bundle(root: Path, uri: str) -> Path:
    """Return the folder of a registered bundle, downloaded and verified by a child process.

    Raises:
        ModelpressError: what the child said.
    """
    command = [sys.executable, "-m", "deploy.server.fetch_bundle", str(root), uri]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ModelpressError(f"{uri}: not downloaded within {TIMEOUT_S} s") from None
    if done.returncode:
        raise ModelpressError((done.stderr.strip().splitlines() or [f"{uri}: the download failed"])[-1])
    return Path(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Download, print the folder; an error is one line and exit code 2."""
    from components.tracking.registry import download_bundle

    try:
        print(download_bundle(Path(sys.argv[1]), sys.argv[2]))
    except ModelpressError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

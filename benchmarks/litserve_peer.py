"""A plain LitServe app around a bundle's predictor, batched by LitServe: {"input": text} -> {"output": answer}.

python -m benchmarks.litserve_peer BUNDLE PORT WORKERS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve

from components.inference import load_predictor

MAX_BATCH, MAX_DELAY_S = 32, 0.005  # as our own server's


class BundleApi(litserve.LitAPI):  # type: ignore[misc]  # at the top of a module: LitServe sends it to its workers
    """One predictor a worker."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=MAX_DELAY_S)
        self.bundle = bundle

    def setup(self, device: str) -> None:
        """Load the bundle, in the worker."""
        self.predictor = load_predictor(self.bundle, threads=1)

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text."""
        return request["input"]

    def predict(self, texts: list[str]) -> list[Any]:
        """Return the answers of a batch."""
        return list(self.predictor.predict(texts))

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return one answer."""
        return {"output": output}


if __name__ == "__main__":
    name, port, workers = sys.argv[1:]
    server = litserve.LitServer(BundleApi(Path(name)), accelerator="cpu", workers_per_device=int(workers), timeout=60)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")

"""`mlflow models serve` of a pyfunc around a bundle's predictor: {"inputs": [text]} -> {"predictions": [answer]}.

python -m benchmarks.mlflow_peer BUNDLE PORT WORKERS
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import mlflow

MODEL = """
from pathlib import Path

import mlflow
from components.inference import load_predictor


class Bundle(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.predictor = load_predictor(Path(context.artifacts["bundle"]), threads=1)

    def predict(self, context, model_input: list[str]):
        return self.predictor.predict(model_input)


mlflow.models.set_model(Bundle())
"""


def save(bundle: Path, folder: Path) -> Path:
    """Write the MLflow model and return its folder."""
    (folder / "bundle_model.py").write_text(MODEL, encoding="utf-8")
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=str(folder / "bundle_model.py"),
        artifacts={"bundle": str(bundle)},
        pip_requirements=["mlflow"],
    )
    return folder / "model"


if __name__ == "__main__":
    name, port, workers = sys.argv[1:]
    model = save(Path(name), Path(tempfile.mkdtemp(prefix="mlflow-peer-")))
    command = ["-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # it starts uvicorn by name
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(Path.cwd())}
    os.execve(sys.executable, [sys.executable, *command, "--port", port, "--workers", workers], environment)

"""One peer's way from an fp32 graph to int8; runs in the peers' own environment, which has nothing of modelpress.

PEERS/bin/python benchmarks/compression_peer_tools.py TOOL FOLDER OUT     (called by benchmarks.compression_peers)

FOLDER holds fp32.onnx, calibration.npz and dev.npz: `image` as the graph takes it, dev's `label`, and `max_drop`, the
relative loss of accuracy that our own export is allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def onnxruntime_defaults(folder: Path, out: Path) -> None:
    """ONNX Runtime's static quantizer: its preprocessing, then its defaults (QDQ, min-max, per tensor)."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = _batches(folder)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(folder / "fp32.onnx"), str(prepared))
    quantize_static(str(prepared), str(out), Reader())
    prepared.unlink()


def nncf_defaults(folder: Path, out: Path) -> None:
    """NNCF's post-training quantization, its defaults, with all calibration pictures."""
    import nncf
    import onnx

    batches = list(_batches(folder))
    dataset = nncf.Dataset(batches, lambda batch: batch)
    onnx.save(nncf.quantize(onnx.load(folder / "fp32.onnx"), dataset, subset_size=len(batches)), out)


def nncf_accuracy_control(folder: Path, out: Path) -> None:
    """NNCF's loop that returns layers to float until dev's accuracy is within the same drop as ours."""
    import nncf
    import onnx
    import onnxruntime

    batches, dev = list(_batches(folder)), np.load(folder / "dev.npz")
    parts = [slice(start, start + 64) for start in range(0, len(dev["label"]), 64)]

    def accuracy(model: Any, data: Any) -> tuple[float, list[float]]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        right = [session.run(["label"], {"image": batch["image"]})[0] == batch["label"] for batch in data]
        return float(np.concatenate(right).mean()), [float(batch.mean()) for batch in right]

    model = nncf.quantize_with_accuracy_control(
        onnx.load(folder / "fp32.onnx"),
        calibration_dataset=nncf.Dataset(batches, lambda batch: batch),
        validation_dataset=nncf.Dataset([{"image": dev["image"][p], "label": dev["label"][p]} for p in parts]),
        validation_fn=accuracy,
        max_drop=float(dev["max_drop"]),
        drop_type=nncf.DropType.RELATIVE,
        subset_size=len(batches),
    )
    onnx.save(model, out)


def olive_static(folder: Path, out: Path) -> None:
    """Olive's pass OnnxStaticQuantization, its defaults."""
    import shutil

    import torch
    from olive.data.config import DataConfig
    from olive.data.registry import Registry
    from olive.workflows import run

    @Registry.register_dataset()
    def pictures(**_: Any) -> Any:
        images = np.load(folder / "calibration.npz")["image"]

        class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
            def __len__(self) -> int:
                return len(images)

            def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], int]:
                return {"image": images[index]}, 0

        return Pictures()

    data = DataConfig(
        name="calibration", type="DataContainer", load_dataset_config={"type": "pictures"},
        pre_process_data_config={"type": "skip_pre_process"}, post_process_data_config={"type": "skip_post_process"},
        dataloader_config={"type": "default_dataloader", "params": {"batch_size": 32}},
    )  # fmt: skip
    work = out.parent / "olive"
    run({
        "input_model": {"type": "ONNXModel", "model_path": str(folder / "fp32.onnx")},
        "data_configs": [data.model_dump()],
        "passes": {"static": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
        "output_dir": str(work), "cache_dir": str(out.parent / "olive-cache"), "log_severity_level": 3,
    })  # fmt: skip
    (made,) = work.rglob("*.onnx")
    shutil.copyfile(made, out)


def _batches(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    images = np.load(folder / "calibration.npz")["image"]
    return ({"image": images[start : start + 32]} for start in range(0, len(images), 32))


TOOLS: dict[str, Callable[[Path, Path], None]] = {
    "onnxruntime": onnxruntime_defaults,
    "nncf": nncf_defaults,
    "nncf accuracy control": nncf_accuracy_control,
    "olive": olive_static,
}

if __name__ == "__main__":
    tool, given, target = sys.argv[1:]
    TOOLS[tool](Path(given), Path(target))

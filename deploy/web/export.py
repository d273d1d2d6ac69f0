"""A bundle as a static site: the page, ONNX Runtime's WebAssembly build, the bundle, and a list of it all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from components.core.bundle import MANIFEST, Bundle
from components.core.errors import ModelpressError
from components.core.files import read_json, sha256_file, write_json
from deploy.export_folder import export_folder

HERE = Path(__file__).parent
SITE = HERE / "site"
PACKAGES = HERE / "node_modules"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of onnxruntime-web's dist/: the CPU, no WebGPU
PREDICTORS = ("translation",)  # that site/ has in JavaScript
LISTING = "site.json"


def export_web(bundle: Path, out: Path) -> dict[str, Any]:
    """Write the site of a bundle to `out`; return the listing: {file: bytes and sha256}, ONNX Runtime's version.

    Raises:
        ModelpressError: no intact bundle, one whose predictor the page lacks, no npm packages, or a foreign `out`.
    """
    manifest = Bundle.load(bundle).manifest
    if manifest.predictor not in PREDICTORS:
        raise ModelpressError(
            f"{bundle}: the page can't run predictor {manifest.predictor!r}; it knows {', '.join(PREDICTORS)}"
        )
    version = _runtime_version()
    with export_folder(out, LISTING) as folder:
        shutil.copytree(SITE, folder, dirs_exist_ok=True)
        (folder / "ort").mkdir()
        for name in RUNTIME:
            shutil.copyfile(PACKAGES / "onnxruntime-web" / "dist" / name, folder / "ort" / name)
        for name in (MANIFEST, *manifest.files):
            (folder / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, folder / "bundle" / name)
        listing = {"files": _files(folder), "onnxruntime_web": version}
        write_json(folder / LISTING, listing)
    return listing


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in paths
    }


def _runtime_version() -> str:
    """Return the version of onnxruntime-web that npm installed, which must be the pinned one."""
    wanted = read_json(HERE / "package.json")["dependencies"]["onnxruntime-web"]
    installed = PACKAGES / "onnxruntime-web" / "package.json"
    found = read_json(installed)["version"] if installed.is_file() else "none"
    if found != wanted:
        raise ModelpressError(
            f"onnxruntime-web {wanted} is needed, {found} is installed; run: "
            f"npm ci --omit=dev --ignore-scripts --prefix {HERE}"
        )
    return str(wanted)

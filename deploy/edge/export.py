"""A bundle as a folder for a small device: the bundle, one script, and the few source files its predictor needs."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata
from pathlib import Path

from components.core.bundle import MANIFEST, SIGNATURE, Bundle, Manifest
from components.core.errors import ModelpressError
from components.core.files import write_text
from components.core.imports import imported_modules
from deploy.export_folder import export_folder

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SCRIPTS = ("run.py", "report.py")

README = """\
{variant}: a {precision} bundle of modelpress, ready to answer on this device.

    pip install -r requirements.txt         # Python 3.11 or later
    python run.py "one input"               # prints the answer
    python run.py --file inputs.txt         # one input a line, one answer a line; - reads standard input
    python run.py --report                  # install size, peak memory, cold start and answer time, as JSON

Every file of bundle/ is checked against the sha256 in its manifest at each start. What the model is, its quality and
its licence: bundle/MODEL_CARD.md.
"""


def export_edge(bundle: Path, out: Path) -> None:
    """Write the folder for a device to `out`.

    Raises:
        ModelpressError: no intact bundle, its predictor is not there or not installed, or a foreign `out`.
    """
    manifest = Bundle.load(bundle).manifest
    sources = sorted(needed_sources(f"components.inference.{manifest.predictor}"))
    with export_folder(out, SCRIPTS[0]) as folder:
        for name in (MANIFEST, SIGNATURE, *manifest.files):
            if name != SIGNATURE or (bundle / SIGNATURE).exists():
                _copy(bundle / name, folder / "bundle" / name)
        for source in sources:
            _copy(REPOSITORY / source, folder / source)
        for name in SCRIPTS:
            _copy(HERE / name, folder / name)
        write_text(folder / "requirements.txt", "".join(f"{line}\n" for line in requirements(sources, manifest)))
        write_text(folder / "README.txt", README.format(variant=manifest.variant, precision=manifest.precision))


def needed_sources(module: str) -> set[Path]:
    """Return the files that loading a predictor's module takes, relative to the repository, packages' own included.

    Raises:
        ModelpressError: there is no such module.
    """
    if not _source(module):
        raise ModelpressError(f"predictor: no {module.replace('.', '/')}.py")
    left, found = [module, "components.inference.predictor", "components.core.golden"], set[Path]()
    while left:
        name = left.pop()
        source = _source(name)
        if source is None or source in found:
            continue
        found.add(source)
        left += imported_modules(REPOSITORY / source)
        left += [name.rpartition(".")[0]] if "." in name else []  # a package runs before what is in it
    return found


def requirements(sources: list[Path], manifest: Manifest) -> list[str]:
    """Return the pinned distributions that the sources import; a tokenizer's only where the bundle has its file."""
    modules = {name.partition(".")[0] for source in sources for name in imported_modules(REPOSITORY / source)}
    modules -= {*sys.stdlib_module_names, "components"}
    if not any(name.endswith(".model") for name in manifest.files):
        modules.discard("sentencepiece")
    distributions = metadata.packages_distributions()
    missing = sorted(modules - distributions.keys())
    if missing:
        raise ModelpressError(f"{missing[0]}: not installed, but the predictor imports it; pip install {missing[0]}")
    return sorted(f"{name}=={metadata.version(name)}" for name in {distributions[module][0] for module in modules})


def _source(module: str) -> Path | None:
    """Return the file of a module of components, relative to the repository; None for anything else."""
    path = Path(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py") if path.parts[0] == "components" else ()
    return next((name for name in candidates if (REPOSITORY / name).is_file()), None)


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)

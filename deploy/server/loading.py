"""From a folder to a model that may answer: verified, checked against its golden examples, warm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.core.bundle import MANIFEST, Bundle, Manifest
from components.core.errors import ModelpressError
from components.core.files import sha256_file
from components.core.golden import Example, count_same, read_examples
from components.core.tolerance import tolerance_for
from components.inference import Predictor, load_predictor
from deploy.server.kinds import kind_of
from deploy.server.quick import Quick, measure_quick


@dataclass(frozen=True)
class Model:
    """One version of a model, ready to answer. digest: sha256 of its manifest, which vouches for all its files.

    kinds: what its golden inputs are, in words; it is asked for nothing else. quick: see there.
    """

    name: str
    version: str
    digest: str
    manifest: Manifest
    predictor: Predictor
    examples: tuple[Example, ...]
    kinds: frozenset[str]
    quick: Quick


def load_model(name: str, version: str, folder: Path, check: Callable[[Path], None]) -> Model:
    """Load a bundle; what is not as it was packaged never answers. Takes seconds, so never on the event loop.

    check: called with the folder first (a signature, where one is required).

    Raises:
        ModelpressError: a changed file, a graph that can't be loaded, or answers that are not the golden ones.
    """
    check(folder)
    bundle = Bundle.load(folder)
    manifest, examples = bundle.manifest, read_examples(folder)
    predictor = load_predictor(bundle, threads=1)
    inputs = [example.input for example in examples]
    least = tolerance_for(manifest.precision, {}, name).agreement
    try:
        same = count_same(predictor.predict(inputs), examples)
        if same < least * len(examples):
            raise ModelpressError(
                f"{name} {version}: only {same} of {len(examples)} golden examples get the answer they had when the "
                f"bundle was packaged ({least:.0%} must); it is damaged or made for another runtime"
            )
        quick = measure_quick(predictor, inputs)  # so a lone request is warm too
    except ModelpressError:
        raise
    except Exception as error:  # whatever a broken graph or asset makes the predictor raise
        reason = " ".join(str(error).split())[:200]
        raise ModelpressError(f"{name} {version}: fails on its golden examples ({reason})") from error
    kinds = frozenset(kind_of(example.input) for example in examples)
    return Model(name, version, sha256_file(folder / MANIFEST), manifest, predictor, examples, kinds, quick)

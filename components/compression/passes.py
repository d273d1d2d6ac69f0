"""The passes by the names params.yaml uses: adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.compression.context import Pass
from components.compression.distill import Distill
from components.compression.prune import Prune
from components.compression.quantize_aware import QuantizeAware
from components.compression.sparsify import Sparsify
from components.core.config import Config, parse_config
from components.core.errors import ConfigError, did_you_mean

PASSES: dict[str, type[Config]] = {
    "distill": Distill,
    "prune": Prune,
    "quantize_aware": QuantizeAware,
    "sparsify": Sparsify,
}


def parse_passes(blocks: Sequence[Mapping[str, Any]], where: str) -> list[Pass]:
    """Return the passes of `students.<name>.passes`.

    Raises:
        ConfigError: an unknown pass or parameter, all of them at once.
    """
    problems, passes = [], []
    for index, block in enumerate(blocks):
        for name, parameters in block.items():
            if name not in PASSES:
                problems.append(f"{where}.{index}: unknown pass {name!r}{did_you_mean(name, PASSES)}")
                continue
            try:
                passes.append(parse_config(PASSES[name], parameters, f"{where}.{index}.{name}"))
            except ConfigError as error:
                problems += error.problems
    names = [name for block in blocks for name in block]
    if "quantize_aware" in names[:-1]:
        problems.append(f"{where}: quantize_aware is the last pass: what follows would undo what it trained for")
    if "sparsify" in names and {*names[names.index("sparsify") :]} != {"sparsify"}:
        problems.append(f"{where}: sparsify is the last pass: the training of another one would fill the zeros")
    if problems:
        raise ConfigError(problems)
    return passes  # type: ignore[return-value]

"""The address of a registered bundle as MLflow writes it: models:/RECIPE@ALIAS or models:/RECIPE/VERSION."""

from __future__ import annotations

import re

from components.core.errors import ModelpressError


def parse_registry_uri(uri: str) -> tuple[str, str | None, int | None]:
    """Return the recipe, and its alias or its version.

    Raises:
        ModelpressError: not such an address.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if match is None:
        raise ModelpressError(f"{uri}: not a registered bundle; write models:/RECIPE@champion or models:/RECIPE/3")
    recipe, alias, number = match.groups()
    return recipe, alias, int(number) if number else None

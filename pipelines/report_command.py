"""`modelpress report`: where a recipe's page is, or one that sets all recipes that were run beside each other."""

from __future__ import annotations

from pathlib import Path

from components.core.errors import ModelpressError
from components.core.files import read_json
from components.core.params import Params
from pipelines.run_command import chosen_recipes


def report_page(root: Path, params: Params, recipe: str | None) -> Path:
    """Return a recipe's page; the first default recipe's without a name.

    Raises:
        ModelpressError: no such recipe, or it has no page yet.
    """
    (name, *_) = chosen_recipes(params, [recipe] if recipe else [], every=False)
    page = (root / "reports" / name / "index.html").resolve()
    if not page.is_file():
        raise ModelpressError(f"{page}: no report yet; `modelpress run {name}` writes it")
    return page


def comparison_page(root: Path, params: Params) -> Path:
    """Write reports/index.html from what the recipes' stages left, and return it.

    Raises:
        ModelpressError: no recipe was run.
    """
    from components.evaluation.recipe_comparison import Trained, write_comparison

    page, trained = (root / "reports" / "index.html").resolve(), []
    for name, recipe in params.recipes.items():
        selection = root / "metrics" / name / "selection.json"
        model = root / "metrics" / name / "models" / f"{name}.json"
        if selection.is_file() and model.is_file():
            has_page = (page.parent / name / "index.html").is_file()
            trained.append(Trained(name, recipe.model_dump(), read_json(model), read_json(selection), has_page))
    if not trained:
        raise ModelpressError(f"{page}: no recipe has been run; `modelpress run --all` runs every one")
    write_comparison(trained, page)
    return page

"""`modelpress run`: check the parameters, find a Prefect server, run the flow under a view, show what came out."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from components.core.errors import ModelpressError
from components.core.files import read_json, sha256_tree, write_text
from components.core.params import Params, parse_params, read_params
from pipelines.params_edit import set_params
from pipelines.prefect_server import TemporaryServer, known_server, set_prefect_defaults

if TYPE_CHECKING:
    from pipelines.progress import RunView

INTERRUPTED = 130
LONGEST_TYPED = 100  # characters of an example that people would type; a picture is none
CODE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for."""

    recipes: Sequence[str]
    jobs: int | None
    force: bool
    promote: bool


def apply_settings(root: Path, assignments: Sequence[str], recipes: Sequence[str], console: Console) -> None:
    """Write `--set` values into params.yaml, if the result passes every check, and say what changed.

    Not while a flow runs: half of its stages would begin with other parameters than the rest.

    Raises:
        ModelpressError: what the checks found, a recipe that is not there, or a flow; params.yaml is as it was then.
    """
    from pipelines.dag import targets_of
    from pipelines.takeover import no_flow_beside

    if not assignments:
        return

    def check(text: str) -> None:
        targets_of(recipes, check_params_fully(root, text))

    with no_flow_beside(root):
        changes = set_params(root / "params.yaml", assignments, check)
    for change in changes:
        console.print(f"params.yaml: {escape(str(change))}", highlight=False, soft_wrap=True)


def chosen_recipes(params: Params, names: Sequence[str], every: bool) -> list[str]:
    """Return the recipes to run: those named, all, or params.yaml's default.

    Raises:
        ModelpressError: an unknown name, or none at all.
    """
    from pipelines.dag import targets_of

    chosen = list(params.recipes) if every else list(names) or params.default
    targets_of(chosen, params)
    if not chosen:
        raise ModelpressError("params.yaml: `default` names no recipe; name one: modelpress run RECIPE")
    return chosen


def check_params_fully(root: Path, text: str) -> Params:
    """Check the text of a params.yaml down to each task's own blocks, once for each text and code; return it.

    The second part imports torch, so a process of its own does it.

    Raises:
        ModelpressError: the problems, one line each.
    """
    code = root / "components"  # tasks, and the readers, passes and configs that they name
    digest = hashlib.sha256(f"{text}\0{sha256_tree(code) if code.is_dir() else ''}".encode()).hexdigest()
    checked = root / ".modelpress" / "checked"
    params = parse_params(text, Path("params.yaml"))
    if checked.is_file() and checked.read_text() == digest:
        return params
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.yaml").write_text(text, encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(root), str(CODE), os.environ.get("PYTHONPATH", "")]))
        check = subprocess.run(
            [sys.executable, "-m", "pipelines", "check"],
            cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if check.returncode:
        raise ModelpressError(check.stderr.strip() or f"`python -m pipelines check` ended with {check.returncode}")
    write_text(checked, digest)
    return params


def connect_prefect(root: Path) -> None:
    """Import Prefect, set to report to the server there is, or to one started for this process."""
    set_prefect_defaults(root)
    address = known_server(root)
    if address:
        os.environ["PREFECT_API_URL"] = address
        import prefect
    else:
        server = TemporaryServer(root)  # starts while Prefect is imported
        os.environ["PREFECT_API_URL"] = server.url
        import prefect  # noqa: F401

        server.wait()


def run(root: Path, params: Params, options: RunOptions, console: Console) -> int:
    """Run the flow; return the exit code: 0, 1 when a stage failed, 130 when interrupted."""
    from pipelines.dag import targets_of
    from pipelines.plan_ahead import planning_ahead

    with planning_ahead(root, targets_of(options.recipes, params)):
        with console.status("Starting Prefect"):
            connect_prefect(root)
        from pipelines.flow import PipelineFailed, pipeline
        from pipelines.progress import LiveView, PlainView, viewing

        view = LiveView(console) if console.is_terminal else PlainView(console)
        try:
            with viewing(view), view.shown():
                pipeline(recipes=list(options.recipes), jobs=options.jobs, force=options.force, promote=options.promote)
        except PipelineFailed:
            show_failures(view, console)
            return 1
        except KeyboardInterrupt:
            # other jobs would share the threads out otherwise, which changes sums' order
            jobs = ["--jobs", str(options.jobs)] if options.jobs else []
            again = ["modelpress run", *options.recipes, *jobs, *(["--promote"] if options.promote else [])]
            console.print(f"Stopped. [bold]{escape(' '.join(again))}[/] goes on from here.", highlight=False)
            return INTERRUPTED
    show_outcome(root, options.recipes, console)
    return 0


def show_failures(view: RunView, console: Console) -> None:
    """Print what each failed stage said last."""
    for name, stage in view.stages.items():
        if stage.state == "Failed":
            console.print(
                f"\n[bold red]{escape(name)} failed[/]: {escape(stage.detail)}", highlight=False, soft_wrap=True
            )
            for line in stage.tail:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        "\nWhat did not depend on it has finished. Mend it and type [bold]modelpress run[/] again.",
        highlight=False,
        soft_wrap=True,
    )


def show_outcome(root: Path, recipes: Sequence[str], console: Console) -> None:
    """Print each recipe's variants and the next commands to type."""
    from components.evaluation.selection import print_table

    selected = ""
    for recipe in recipes:
        path = root / "metrics" / recipe / "selection.json"
        if path.is_file():
            selection = read_json(path)
            print_table(selection, console)
            selected = selected or str(selection["selected"])
    console.print("\nNext:", style="bold")
    first = recipes[0]
    golden = root / "bundles" / first / selected / "golden.json"
    example = read_json(golden)["examples"][0]["input"] if selected and golden.is_file() else "text"
    typed = shlex.quote(example) if isinstance(example, str) and len(example) < LONGEST_TYPED else "FILE"
    rows = [(f"modelpress report {first}", "the report page: table, frontier, curves, examples"),
            ("modelpress ui", "the MLflow and Prefect user interfaces"),
            (f"modelpress predict {selected or first} {typed}", "try the chosen bundle")]  # fmt: skip
    for command, meaning in rows:
        console.print(f"  [cyan]{escape(command)}[/]  {meaning}", highlight=False, soft_wrap=True)


def load_checked_params(root: Path) -> Params:
    """Return params.yaml, checked down to the tasks' own blocks."""
    return check_params_fully(root, read_params(root / "params.yaml"))

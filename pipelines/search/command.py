"""`modelpress search`: stages first, then trials, then all finalists timed together, and what follows from them."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from components.core.errors import ModelpressError
from components.core.files import write_json, write_text
from components.core.params import Budget, Params, parse_params
from pipelines.dag import is_stale, read_plan, targets_of
from pipelines.quantities import parse_duration, parse_share, parse_size
from pipelines.search.clock import Clock
from pipelines.search.outcome import Limit, block, conclude, limits
from pipelines.search.space import Candidate, Space
from pipelines.search.study import Study, Tried, seed_of
from pipelines.search.timing import time_bundles
from pipelines.search.workers import Refused, Workers, ask_row, ask_space

NOTHING_FITS, INTERRUPTED = 1, 130
FINAL_REPEATS = 9
REFERENCE: list[dict[str, dict[str, Any]]] = [{"distill": {"model": {}}}]  # its network with its first weights


@dataclass(frozen=True)
class SearchOptions:
    """What the command line asks for."""

    recipe: str
    budget: Budget
    trials: int
    jobs: int
    max_seconds: float


def options_of(
    params: Params, recipe: str, max_size: str | None, max_p50: str | None, min_quality: str | None,
    trials: int, jobs: int, max_time: str | None,
) -> SearchOptions:  # fmt: skip
    """Return the options with what was left out from the recipe's budget.

    Raises:
        ModelpressError: no such recipe, an unreadable limit, or fewer trials than hand-written variants.
    """
    targets_of([recipe], params)
    budget = params.recipes[recipe].budget.model_dump()
    if max_size is not None:
        budget["max_size_mb"] = parse_size(max_size, "--max-size") / 1e6
    if max_p50 is not None:
        budget["max_p50_ms"] = parse_duration(max_p50, "--max-p50") * 1e3
    if min_quality is not None:
        budget["min_quality"] = parse_share(min_quality, "--min-quality")
    seconds = parse_duration(max_time, "--max-time") if max_time is not None else math.inf
    written = len(params.variants_of(recipe))
    if trials < written:
        first = f"the recipe's {written} hand-written variants come first"
        raise ModelpressError(f"--trials {trials}: {first}; give at least {written}")
    return SearchOptions(recipe, Budget(**budget), trials, jobs, seconds)


def search(root: Path, options: SearchOptions, params: Params, console: Console) -> int:
    """Search, show what was found, and return the exit code: 0, 1 where nothing fits, 130 when interrupted."""
    folder = root / ".modelpress" / "search" / options.recipe
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with FileLock(folder / "search.lock", timeout=0):
            bring_up_to_date(root, options.recipe, params, console)
            tried, selection = _search(folder, options, params, console)
    except Timeout:
        raise ModelpressError(f"{options.recipe}: another search of it is going on here; wait for it") from None
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
        return INTERRUPTED
    candidates = {trial.name: trial.candidate for trial in tried}
    found = limits(selection, given_up(tried))
    artifacts = write_results(folder, selection, tried, found)
    if paste := paste_text(options.recipe, selection["selected"], candidates, params):
        artifacts.append(folder / "found.yaml")
        write_text(artifacts[-1], paste)
    show(selection, candidates, found, paste, artifacts, console)
    _record(root, selection, candidates, artifacts, console)
    return 0 if selection["met"] else NOTHING_FITS


def bring_up_to_date(root: Path, recipe: str, params: Params, console: Console) -> None:
    """Run the stages that make the teacher and the hand-written students, where DVC finds them stale.

    Raises:
        ModelpressError: one of them failed, or a flow runs in this folder.
    """
    from pipelines.stage_host import StageHost
    from pipelines.takeover import only_flow

    parents = {variant.parent for variant in params.variants_of(recipe).values()} & params.students.keys()
    with console.status("Reading dvc.yaml"):
        plan = read_plan(root, [f"train@{recipe}", *(f"compress@{parent}" for parent in sorted(parents))])
    if not any(stage.stale or stage.upstream_stale for stage in plan.values()):
        return
    with only_flow(root, "search"), closing(StageHost(root)) as host:
        for name in plan:
            if not is_stale(root, name):
                continue
            with console.status(f"{name} (stage of the pipeline)"):
                tail: list[str] = []
                result = host.run(name, tail.append)
            if result.status == "failed":
                raise ModelpressError(f"{name} failed: {'; '.join([result.error, *tail[-2:]])}")
            console.print(f"{name}: {result.status}", highlight=False)


def _search(
    folder: Path, options: SearchOptions, params: Params, console: Console
) -> tuple[list[Tried], dict[str, Any]]:
    """Run the trials and time those trained to the end together; return all trials and the selection."""
    with Workers(options.jobs, folder / "logs") as workers:

        def evaluate(candidate: Candidate, effort: str) -> dict[str, Any]:
            row = workers.call(ask_row, options.recipe, candidate, effort, folder / "work")
            if "refused" in row:
                raise Refused(row["refused"])
            return row

        with console.status("Looking at the recipe"):
            space, inputs = workers.call(ask_space, options.recipe)
            teacher = Candidate(options.recipe, [], space.forms["fp32"])
            untrained = Candidate(options.recipe, REFERENCE, space.forms["fp32"])
            clock = Clock(
                {
                    "full": evaluate(teacher, "full")["bundle"],
                    "untrained": evaluate(untrained, "untrained")["bundle"],
                }
            )
        console.print(space_in_words(space), highlight=False, soft_wrap=True)
        seeds = {
            name: seed_of(space, variant, space.made[variant.parent])
            for name, variant in params.variants_of(options.recipe).items()
        }
        study = Study(
            space, seeds, options.budget, inputs, folder, evaluate, clock.estimate,
            lambda text: console.print(escape(text), highlight=False, soft_wrap=True),
        )  # fmt: skip
        if study.tried():
            console.print(f"{len(study.tried())} trials ended before; going on from there", highlight=False)
        study.run(options.trials, options.jobs, options.max_seconds)
        tried = study.tried()
        done = [(trial, row) for trial in tried if (row := trial.outcome.row) is not None]
        rows = [{**row, "variant": trial.name} for trial, row in done]
        # where they lie now: the study may be of before the project was moved
        bundles = {trial.name: evaluate(trial.candidate, "full")["bundle"] for trial, _ in done}
    if not rows:
        ends = [*(trial.outcome.text for trial in tried), *study.failed, "--max-time was over before it"]
        raise ModelpressError(f"{options.recipe}: no trial came to its end; the first: {ends[0]}")
    with console.status(f"Timing {len(rows)} variants together"):
        latency = time_bundles(bundles, FINAL_REPEATS)
    return tried, conclude(options.recipe, options.budget, rows, latency)


def given_up(tried: Sequence[Tried]) -> dict[str, int]:
    """Return how many trials were given up for a limit, by its name in the budget."""
    names = {"size": "max_size_mb", "p50": "max_p50_ms"}
    return dict(Counter(names[limit] for trial in tried for limit in trial.outcome.out_of_reach))


def space_in_words(space: Space) -> str:
    """Return what is searched, one line a parameter."""
    return "\n".join(f"  {name}: {', '.join(map(str, values))}" for name, values in space.choices().items())


def paste_text(recipe: str, selected: str, candidates: Mapping[str, Candidate], params: Params) -> str:
    """Return the chosen trial as text for params.yaml; nothing where it stands there already.

    Raises:
        ModelpressError: params.yaml would be wrong with it.
    """
    import yaml

    if selected in params.variants:
        return ""
    found = block(recipe, candidates[selected], params)
    text = yaml.safe_dump(found, default_flow_style=None, sort_keys=False, width=1 << 16, allow_unicode=True)
    whole = params.model_dump(by_alias=True, mode="json", exclude_unset=True)  # a default may belong to another form
    merged = {**whole, **{kind: {**whole.get(kind, {}), **blocks} for kind, blocks in found.items()}}
    parse_params(yaml.safe_dump(merged, sort_keys=False), Path("params.yaml"))
    return str(text)


def write_results(
    folder: Path, selection: Mapping[str, Any], tried: Sequence[Tried], found: Sequence[Limit]
) -> list[Path]:
    """Write the plot and the trials, and remove an earlier search's block; return the files."""
    from components.evaluation.charts.frontier import frontier_chart, standalone

    plot, trials = folder / "frontier.svg", folder / "search.json"
    write_text(plot, standalone(frontier_chart(selection, 920, 460)))
    outcomes = [{"trial": t.name, **asdict(t.candidate), "outcome": t.outcome.text} for t in tried]
    write_json(trials, {"selection": selection, "limits": [asdict(limit) for limit in found], "trials": outcomes})
    (folder / "found.yaml").unlink(missing_ok=True)
    return [plot, trials]


def show(
    selection: Mapping[str, Any], candidates: Mapping[str, Candidate], found: Sequence[Limit], paste: str,
    artifacts: Sequence[Path], console: Console,
) -> None:  # fmt: skip
    """Print the frontier, what its trials are, the choice with its reasons, and the block."""
    from components.evaluation.selection import variants_table

    frontier = [row for row in selection["variants"] if row["on_frontier"] or row["variant"] == selection["selected"]]
    console.print(variants_table({**selection, "variants": frontier}, all_figures=False))
    for row in frontier:
        console.print(f"  {row['variant']}: {escape(str(candidates[row['variant']]))}", highlight=False, soft_wrap=True)
    style = "bold green" if selection["met"] else "bold red"
    console.print(f"\n[{style}]➜ {selection['selected']}[/]  {selection['reason']}", highlight=False, soft_wrap=True)
    for limit in found:
        console.print(f"  {escape(limit.text)}", highlight=False, soft_wrap=True)
    if paste:
        console.print("\nFor params.yaml:\n")
        console.print(paste, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"\n{selection['selected']} stands in params.yaml already.", highlight=False)
    here = Path.cwd()
    names = (str(path.relative_to(here) if path.is_relative_to(here) else path) for path in artifacts)
    console.print(f"written: {', '.join(names)}", highlight=False, soft_wrap=True)


def _record(
    root: Path, selection: Mapping[str, Any], candidates: Mapping[str, Candidate], artifacts: Sequence[Path],
    console: Console,
) -> None:  # fmt: skip
    """Tell MLflow; a store that cannot be reached takes nothing from what was found."""
    from components.tracking.search_record import record_search

    try:
        record_search(root, selection, {name: asdict(found) for name, found in candidates.items()}, artifacts)
    except Exception as error:  # SQLite, SQLAlchemy and HTTP errors come through as they are
        console.print(f"MLflow has not recorded the search: {escape(str(error).splitlines()[0])}", soft_wrap=True)

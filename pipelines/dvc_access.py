"""The few places where modelpress reaches behind DVC's public API, kept together and guarded by a test.

DVC is pinned; tests/flows/test_dvc_access.py fails when a new version moves one of these. The public fallback for a
stage is `dvc --wait-for-lock repro --single-item STAGE`, 0.5 s slower each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.core.errors import ModelpressError, did_you_mean
from components.core.files import write_text

LOCK_POLL_SECONDS = 0.02  # DVC's own is 0.5 s, which eight stages finishing together would feel
_LOCK_RETRIES = 6  # dvc.lock divides its DEFAULT_TIMEOUT by this to get the pause between two attempts


def open_repo(root: Path) -> Any:
    """Return a DVC repo that waits for DVC's lock instead of failing when another process holds it."""
    import dvc.lock
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    dvc.lock.DEFAULT_TIMEOUT = LOCK_POLL_SECONDS * _LOCK_RETRIES  # type: ignore[assignment]
    try:
        return Repo(str(root), _wait_for_lock=True)
    except NotDvcRepoError:
        raise ModelpressError(
            f"{root}: not a DVC repository; run modelpress in the folder that holds dvc.yaml"
        ) from None


@contextmanager
def locked_repo(root: Path) -> Iterator[Any]:
    """Yield a DVC repo with its lock held: nobody commits a stage meanwhile."""
    from dvc.repo import lock_repo

    repo = open_repo(root)
    try:
        with lock_repo(repo):
            yield repo
    finally:
        repo.close()


def stage_name(stage: Any) -> str:
    """Return a stage's name in dvc.yaml (`train@x`); DVC's own `addressing` depends on the working folder."""
    return str(getattr(stage, "name", None) or stage.addressing)


def planned_stages(repo: Any, targets: list[str] | None) -> tuple[Any, list[Any]]:
    """Return DVC's graph (an edge points to a dependency) and the stages `dvc repro TARGETS` visits, in its order.

    Raises:
        ModelpressError: a malformed dvc.yaml, or a target it does not hold.
    """
    from dvc.exceptions import DvcException
    from dvc.repo.reproduce import get_active_graph, plan_repro

    try:
        graph = get_active_graph(repo.index.graph)
    except DvcException as error:
        reason = " ".join(str(root_cause(error)).split())
        where = "dvc.lock" if "dvc.lock" in f"{error} {reason}" else "dvc.yaml"
        raise ModelpressError(f"{where}: {reason}") from None
    by_name = {stage_name(stage): stage for stage in graph}
    for target in targets or []:
        if target not in by_name:
            raise ModelpressError(f"dvc.yaml: no stage {target!r}{did_you_mean(target, by_name)}")
    return graph, plan_repro(graph, [by_name[target] for target in targets] if targets else None)


@contextmanager
def params_parsed_once() -> Iterator[None]:
    """Parse params.yaml once, not anew for each stage that is compared: 0.15 s a stage with all the recipes in it.

    The file is held to be the same for as long as the block lasts.
    """
    import dvc.dependency.param as param

    load, parsed = param.load_path, {}

    def load_once(path: str, *arguments: Any, **options: Any) -> Any:
        if path not in parsed:
            parsed[path] = load(path, *arguments, **options)
        return parsed[path]

    param.load_path = load_once
    try:
        yield
    finally:
        param.load_path = load


def commit_files_atomically() -> None:
    """Make this process write dvc.lock whole or not at all, so that no kill can leave half of it."""
    import dvc.dvcfile
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    @contextmanager
    def modify_yaml(path: str, fs: Any = None) -> Iterator[Any]:
        text = Path(path).read_text(encoding="utf-8") if os.path.exists(path) else ""
        data = parse_yaml_for_update(text, path)
        yield data
        write_text(Path(path), dumps_yaml(data))

    dvc.dvcfile.modify_yaml = modify_yaml


def wrap_commands(wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Put `wrap` around the function with which DVC runs one shell command of a stage."""
    import dvc.stage.run

    dvc.stage.run._run = wrap(dvc.stage.run._run)


def note_inputs_before_commands() -> None:
    """Make dvc.lock say what a stage's inputs were when its command began.

    DVC notes them behind the command: what a user edits meanwhile would be noted as if it had been used, and the stage
    called fresh. So it is stale, as it is.
    """
    import dvc.stage.run

    run_command = dvc.stage.run.cmd_run

    def noted(stage: Any, *arguments: Any, **options: Any) -> None:
        stage.save_deps()
        stage.save_deps = lambda **_: None
        run_command(stage, *arguments, **options)

    dvc.stage.run.cmd_run = noted


def lock_entry(stage: Any) -> dict[str, Any]:
    """Return what dvc.lock says about a stage."""
    from dvc.stage.serialize import to_single_stage_lockfile

    return dict(to_single_stage_lockfile(stage))


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error: DVC wraps what went wrong in "failed to reproduce"."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def command_exit_code(error: BaseException) -> int | None:
    """Return the exit code of the stage's command that an error is about; DVC tells it in the text only."""
    from dvc.stage.exceptions import StageCmdFailedError

    found = re.search(r"exited with (-?\d+)$", str(error)) if isinstance(error, StageCmdFailedError) else None
    return int(found[1]) if found else None

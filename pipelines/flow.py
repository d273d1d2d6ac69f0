"""The flow: walks DVC's DAG, each stage one Prefect task run. DVC decides whether a stage runs, this decides when.

An unchanged stage ends as Cached without a process of its own. Result caching is off: there is no second cache.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectException
from prefect.states import Completed, Crashed
from prefect.task_runners import ThreadPoolTaskRunner

from components.core.errors import ModelpressError
from components.core.files import read_json
from components.core.params import Params, load_params
from components.core.threads import cores, threads
from components.tracking.registration import (
    is_judged,
    is_registered,
    note_judged,
    register_if_new,
    registered_version,
)
from pipelines.dag import PlannedStage, is_stale, recipe_of, targets_of
from pipelines.durations import Durations, longest_chains
from pipelines.lock_order import is_unsettled, note_order, settle_order
from pipelines.plan_ahead import plan_of
from pipelines.progress import RunView, current_view
from pipelines.recording import Recorder
from pipelines.schedule import Schedule
from pipelines.stage_host import StageHost, StageResult
from pipelines.takeover import only_flow

TAIL_LINES = 5  # of a failed stage, in its state's message
USE_ALL_CORES = ("train", "compress")
UNKNOWN_TRAINING_S, UNKNOWN_S = 600.0, 10.0  # of stages that never ran, to put them in line
MOST_LIGHT_STAGES = 4  # side by side: each may hold a gigabyte


class StageFailed(RuntimeError):
    """A stage's command failed."""

    def __init__(self, result: StageResult, tail: Sequence[str]) -> None:
        super().__init__("\n".join([result.error, *tail]))
        self.retry = result.retry


class PipelineFailed(RuntimeError):
    """Stages failed; what did not depend on them has finished."""

    def __init__(self, failed: Sequence[str]) -> None:
        super().__init__(f"failed: {', '.join(failed)}")
        self.failed = list(failed)


@flow(  # type: ignore[untyped-decorator]
    name="modelpress",
    flow_run_name=lambda: _flow_run_name(),  # defined below
    task_runner=ThreadPoolTaskRunner(max_workers=256),  # type: ignore[arg-type]  # the schedule limits, not the threads
    persist_result=False,
)
def pipeline(
    recipes: list[str] | None = None,
    targets: list[str] | None = None,
    jobs: int | None = None,
    force: bool = False,
    track: bool = True,
    promote: bool = False,
) -> dict[str, str]:
    """Bring recipes up to date in the current folder; return {stage: Completed, Cached or Restored}.

    Args:
        recipes: names in params.yaml (its `default` when None).
        targets: DVC stages instead of whole recipes. Without recipes, targets and a `default`: all stages.
        jobs: stages at a time; above one, each gets its share of the cores. None: training and compression one at a
            time with all cores, the other stages side by side, one a core and at most four.
        force: run every stage, changed or not.
        track: record executed stages in MLflow.
        promote: make a newly registered version the champion, if it passes the gate.

    Raises:
        PipelineFailed: stages failed.
        ModelpressError: a mistake in dvc.yaml, params.yaml or the names given.
    """
    root = Path.cwd()
    params = load_params(root / "params.yaml") if (root / "params.yaml").exists() else Params()
    chosen = recipes or params.default
    with only_flow(root, str(runtime.flow_run.id)) as abandoned:
        if abandoned:
            _mark_crashed(abandoned)
        forget_other_machine(root)
        plan = plan_of(root, targets or targets_of(chosen, params) or None, settled=not abandoned)
        walk = _Walk(root, plan, params, chosen, jobs=jobs, force=force, track=track, promote=promote)
        work = walk.has_work or is_unsettled(root)
        before = note_order(root) if work else []
        try:
            outcomes = walk.go()
        finally:
            walk.host.close()
            try:
                if work:
                    settle_order(root, before, plan)
            finally:
                walk.close_records()  # which name dvc.lock's hash, so once it is as it stays
    failed = [name for name, outcome in outcomes.items() if outcome == "Failed"]
    if failed:
        raise PipelineFailed(failed)
    return outcomes


def _flow_run_name() -> str:
    parameters = runtime.flow_run.parameters
    return " ".join(parameters.get("recipes") or parameters.get("targets") or ["default"])


def _mark_crashed(flow_run: str) -> None:
    """Tell Prefect that a flow run was killed, or it would seem to run for ever."""
    with get_client(sync_client=True) as client, suppress(PrefectException, ValueError):  # another server's, a search
        if client.read_flow_run(UUID(flow_run)).state_type == StateType.RUNNING:
            client.set_flow_run_state(UUID(flow_run), Crashed(message="its process was killed"), force=True)


class _Walk:
    """One walk over a plan."""

    def __init__(
        self, root: Path, plan: Mapping[str, PlannedStage], params: Params, chosen: Sequence[str],
        *, jobs: int | None, force: bool, track: bool, promote: bool,
    ) -> None:  # fmt: skip
        self.root, self.plan, self.params, self.force = root, dict(plan), params, force
        self.jobs, self.jobs_given = jobs or min(threads(), MOST_LIGHT_STAGES), jobs is not None
        self.has_work = force or any(stage.stale for stage in plan.values())
        self.promote = promote
        self.view: RunView = current_view()
        self.host = StageHost(root)
        if track:
            self._add_registrations()
        owners = {name: recipe_of(stage, params, chosen) if track else None for name, stage in self.plan.items()}
        self.recorder = Recorder(root, owners, {"prefect_flow_run": str(runtime.flow_run.id)})
        self._dvc = threading.Lock()  # DVC's locks tell processes apart, not threads
        self._outcomes: dict[str, str] = {}
        self._seconds: dict[str, float] = {}

    def go(self) -> dict[str, str]:
        """Start what may start, wait for an end, repeat; return {step: final state's name}."""
        self.view.begin(self.root, self.plan, self.jobs, self._runs_alone)
        if self.has_work:
            threading.Thread(target=self.host.warm_up, daemon=True).start()
        ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        futures: dict[str, Any] = {}
        depends_on = {name: self.plan[name].depends_on for name in self._in_line()}
        schedule = Schedule(depends_on, self.jobs, alone=self._runs_alone)
        with _stopping_on_signals(self.host.stop):
            while not schedule.done:
                for name in schedule.start():
                    wait_for = [futures[other] for other in self.plan[name].depends_on]
                    futures[name] = self._task(name).submit(name, wait_for=wait_for)
                    futures[name].add_done_callback(lambda _, name=name: ended.put(name))
                name = ended.get()
                futures[name].wait()  # takes over the state; before, `state` would ask the server, which lags behind
                state = futures[name].state
                self._finish(name, state)
                schedule.finish(name, state.is_completed())
                for doomed in schedule.doomed():
                    self._skip(doomed)
        return self._outcomes

    def close_records(self) -> None:
        """Close the records, each recipe's by how its own stages ended."""
        self.recorder.close([name for name in self.plan if self._outcomes.get(name, "Failed") in ("Failed", "Skipped")])

    def attempt(self, name: str) -> State[Any]:
        """Bring one stage up to date; return its final state.

        Raises:
            StageFailed: its command failed.
        """
        if self._is_fresh(name):
            return Completed(name="Cached", message="unchanged since dvc.lock")
        logger = get_run_logger()

        def on_line(line: str) -> None:
            logger.info(line)
            self.view.line(name, line)

        self.view.running(name)
        env = {**self._threads(), **self.recorder.start(name)}
        result = StageResult("failed", error="interrupted")
        try:
            result = self.host.run(name, on_line, env=env, force=self.force, timeout_s=self._timeout(name))
        finally:
            self.recorder.end(name, result)
        if result.status == "failed":
            raise StageFailed(result, list(self.view.stages[name].tail)[-TAIL_LINES:])
        if result.status == "executed":
            self._seconds[name] = result.seconds
            return Completed(message=f"ran {result.seconds:.1f} s")
        found = "restored from DVC's run cache" if result.status == "restored" else "unchanged since dvc.lock"
        return Completed(name="Restored" if result.status == "restored" else "Cached", message=found)

    def register(self, name: str) -> State[Any]:
        """Put the recipe's chosen bundle into the registry, unless nothing about it has changed."""
        recipe = self.plan[name].key
        if (is_judged if self.promote else is_registered)(self.root, recipe):
            return Completed(name="Cached", message="registered already")
        self.view.running(name)
        version = register_if_new(self.root, recipe)
        done = "registered already" if version is None else f"version {version}"
        return Completed(message=f"{done}{self._promoted(recipe) if self.promote else ''}")

    def _promoted(self, recipe: str) -> str:
        """Make the version the champion unless the gate refuses it, which fails no run: the one before goes on."""
        from components.tracking.registry import GateRefused, promote

        try:
            version = registered_version(self.root, recipe)
            promote(self.root, recipe, version, budget=self.params.recipes[recipe].budget)
            outcome = "champion"
        except GateRefused as refusal:
            get_run_logger().warning(str(refusal))
            outcome = str(refusal)
        note_judged(self.root, recipe)  # not before: after a kill or with the store away it gets its chance again
        return f", {outcome}"

    def _task(self, name: str) -> Any:
        step = self.register if self.plan[name].family == "register" else self.attempt
        stages = self.params.stages
        return task(
            lambda name: step(name),
            name=name,
            task_run_name=name,
            retries=stages.retries,
            retry_delay_seconds=stages.retry_delay_s,
            retry_condition_fn=_worth_a_retry,
            cache_policy=NO_CACHE,
            persist_result=False,
        )

    def _is_fresh(self, name: str) -> bool:
        stage = self.plan[name]
        if self.force or stage.stale:
            return False
        if not stage.upstream_stale:
            return True
        with self._dvc:  # its dependencies may have been reproduced unchanged
            return not is_stale(self.root, name)

    def _timeout(self, name: str) -> float | None:
        limits = self.params.stages.timeout_s
        return limits.get(name) or limits.get(self.plan[name].family)

    def _in_line(self) -> list[str]:
        """Return the stages in the order in which they start when several may: measurements last.

        Trainings that run alone go first: between two of them few others are ready at once, behind them all there is
        one for every core. With --jobs the longest chain goes first, so that no core waits at the end for a student of
        a student; a measurement in between would keep all cores but one waiting for a training's end.
        """
        durations = Durations(self.root)

        def expected(name: str) -> float:
            if self._is_fresh_already(name):
                return 0.0
            return durations.expected(name) or (UNKNOWN_TRAINING_S if self._is_training(name) else UNKNOWN_S)

        seconds = {name: expected(name) for name in self.plan}
        chains = longest_chains({name: self.plan[name].depends_on for name in self.plan}, seconds)

        def turn(name: str) -> tuple[int, float]:
            family = self.plan[name].family
            if family == "measure":
                return 2, 0.0
            if self.jobs_given:
                return 0, -chains[name]
            return (0 if family in ("fetch", "prepare") or self._is_training(name) else 1), 0.0

        return sorted(self.plan, key=turn)

    def _is_training(self, name: str) -> bool:
        return self.plan[name].family in USE_ALL_CORES

    def _is_fresh_already(self, name: str) -> bool:
        """Whether a stage will end as Cached whatever the others do."""
        stage = self.plan[name]
        return not (self.force or stage.stale or stage.upstream_stale)

    def _runs_alone(self, name: str) -> bool:
        stage = self.plan[name]
        if self._is_fresh_already(name):
            return False  # nobody need wait for it
        return stage.family == "measure" or (not self.jobs_given and self._is_training(name))

    def _threads(self) -> dict[str, str]:
        if self.jobs == 1 or not self.jobs_given:  # all cores, exactly as under `dvc repro`
            return {}
        share = os.environ.get("MODELPRESS_THREADS") or str(max(1, cores() // self.jobs))
        return {"OMP_NUM_THREADS": share, "MODELPRESS_THREADS": share}

    def _finish(self, name: str, state: State[Any]) -> None:
        self._outcomes[name] = str(state.name) if state.is_completed() else "Failed"
        if state.is_completed():
            detail = state.message or ""
        else:
            error = state.result(raise_on_failure=False)
            detail = next(iter(str(error or state.message).splitlines()), type(error).__name__)
        self.view.ended(name, self._outcomes[name], detail, self._seconds.get(name))

    def _skip(self, name: str) -> None:
        blockers = [other for other in self.plan[name].depends_on if self._outcomes.get(other) in ("Failed", "Skipped")]
        message = f"because of {', '.join(blockers)}"
        skip = task(lambda: State(type=StateType.CANCELLED, name="Skipped", message=message),
                    name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)  # fmt: skip
        skip(return_state=True)
        self._outcomes[name] = "Skipped"
        self.view.ended(name, "Skipped", message)

    def _add_registrations(self) -> None:
        for name, stage in list(self.plan.items()):
            if stage.family == "select" and stage.key in self.params.recipes:
                step = f"register@{stage.key}"
                self.plan[step] = PlannedStage(step, (name,), stale=False, upstream_stale=False)


def forget_other_machine(root: Path) -> None:
    """Remove hardware.json where it describes another machine, so that DVC finds its stage, and all timings, stale."""
    described = root / "hardware.json"
    if described.is_file():
        from components.evaluation.hardware import describe

        try:
            same = read_json(described) == describe()
        except ModelpressError:  # half a file from elsewhere
            same = False
        if not same:
            described.unlink()


def _worth_a_retry(task: Any, task_run: Any, state: State[Any]) -> bool:
    try:
        state.result()
    except StageFailed as error:
        return error.retry
    except ModelpressError:
        return False
    except Exception:
        return True
    return False


@contextmanager
def _stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Stop the stages on Ctrl-C and SIGTERM before Python or Prefect unwinds the flow (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        stop()
        before = previous[number]
        if callable(before):
            before(number, frame)
        else:
            raise KeyboardInterrupt

    previous: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""The search itself: Optuna proposes points, cheap looks sort them out, few are trained to the end; all of it is kept.

Sampler: TPE with constraints (Bergstra et al. 2011, Watanabe 2023); every second proposal is a neighbour of the best so
far, as of TPE's first points, which are random, few come near a tight budget. A trial goes through up to three efforts:
untrained (size and latency, nearly), short (a part of each training; successive halving: Li et al. 2020) and full.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.params import Budget, Variant
from components.evaluation.selection import TIE, megabytes_text
from pipelines.fits import stable
from pipelines.search.space import SHORT, Candidate, Space, variant_part
from pipelines.search.workers import Refused, WorkerKilled

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    Evaluate = Callable[[Candidate, str], dict[str, Any]]  # a candidate at an effort -> its row
    Estimate = Callable[[Mapping[str, Any], str], float | None]  # a row at an effort -> milliseconds

PROMOTED = 3  # one of so many short trainings goes on to the full one
EFFORTS = ("untrained", "short", "full")
# How far beyond a limit a figure may lie before it speaks against a trial. Untrained, a network that is pruned across
# layers loses other units than it will, and nothing is known of its answers; then both are nearly the final ones.
SLACK = {
    "size": {"untrained": 0.15, "short": 0.05, "full": 0.0},
    "p50": {"untrained": 0.5, "short": 0.15, "full": 0.0},
}
WORDS = {"size": "size", "p50": "latency"}
PATIENCE = 2000  # random points that were all tried before, after which there is nothing left to try


@dataclass(frozen=True)
class Seed:
    """A hand-written variant: the first trials of a search, each measured to the end."""

    candidate: Candidate
    point: Mapping[str, int]


@dataclass(frozen=True)
class Outcome:
    """What came of a trial, in words; row: of one that was trained to the end; out_of_reach: limits that ended it."""

    text: str
    row: dict[str, Any] | None = None
    out_of_reach: Sequence[str] = ()


@dataclass(frozen=True)
class Tried:
    """A trial that ended."""

    name: str
    candidate: Candidate
    outcome: Outcome


def seed_of(space: Space, variant: Variant, passes: list[dict[str, dict[str, Any]]]) -> Seed:
    """Return a hand-written variant as the trial it is; `passes` made its parent, which lies under models/."""
    return Seed(Candidate(variant.parent, [], variant_part(variant)), space.point(passes, variant))


class NoTime(Exception):
    """A trial's training would last beyond the search's time."""


class Study:
    """One budget's search over one space; what an earlier process finished is taken as it is.

    evaluate, estimate: see the types; both are called from `jobs` threads. folder: holds study.db. inputs: digest of
    what trials depend on beside space and seeds. say: is told each trial's end. failed: what went wrong unforeseen.
    """

    def __init__(
        self, space: Space, seeds: Mapping[str, Seed], budget: Budget, inputs: str, folder: Path,
        evaluate: Evaluate, estimate: Estimate, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._states = optuna.trial.TrialState
        self.space, self.seeds, self.budget = space, seeds, budget
        self._evaluate, self._estimate, self._say = evaluate, estimate, say
        self._lock = threading.Lock()
        self.stopped = False
        self.failed: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        written = {name: asdict(seed.candidate) for name, seed in seeds.items()}
        name = hashlib.sha256(stable([asdict(space), written, budget.model_dump(), inputs])).hexdigest()[:16]
        storage = f"sqlite:///{folder / 'study.db'}"
        known = name in optuna.get_all_study_names(storage) if (folder / "study.db").is_file() else False
        before = len(optuna.load_study(study_name=name, storage=storage).trials) if known else 0
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction="maximize",
            # a resumed search must not draw the points again that the killed one drew
            sampler=optuna.samplers.TPESampler(seed=before, multivariate=True, constant_liar=True),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=PROMOTED),
        )
        self._resume()

    def run(self, trials: int, jobs: int, max_seconds: float = math.inf) -> None:
        """Go on until so many trials have ended, the time is over, or there is nothing left to try.

        What would not end in time, by what its short training took, is not trained; the next run goes on with it.
        """
        self._deadline = time.monotonic() + max_seconds
        self._trials = trials
        pool = ThreadPoolExecutor(jobs)
        futures = [pool.submit(self._work) for _ in range(jobs)]
        try:
            for future in futures:
                future.result()
        except BaseException:  # the threads end once the caller has ended the workers they wait for
            self.stopped = True
            raise
        finally:
            pool.shutdown(wait=False)

    def tried(self) -> list[Tried]:
        """Return the trials that ended, in the order they were proposed."""
        return [
            Tried(_name(trial), Candidate(**trial.user_attrs["candidate"]), Outcome(**outcome))
            for trial in self._study.trials
            if (outcome := trial.user_attrs.get("outcome"))
        ]

    # ---- proposing

    def _resume(self) -> None:
        """Take over what ended, propose again what a kill interrupted, and the hand-written variants first of all."""
        trials = self._study.trials
        for trial in trials:
            if trial.state == self._states.RUNNING:
                self._study.tell(trial.number, state=self._states.FAIL)
                if "candidate" in trial.user_attrs and "outcome" not in trial.user_attrs:
                    self._enqueue(trial.params, trial.user_attrs)
        ended = [trial for trial in trials if "outcome" in trial.user_attrs]
        self._seen = {Candidate(**trial.user_attrs["candidate"]).identity for trial in ended}
        self._begun = len(ended)
        # the least by which limits were exceeded together, as far as each effort can tell
        self._nearest = dict.fromkeys(EFFORTS, math.inf)
        for trial in ended:
            self._come_nearer(trial.user_attrs["nearest"])
        proposed = {trial.user_attrs.get("seed") for trial in trials}
        for name, seed in self.seeds.items():
            if name not in proposed:
                self._enqueue(seed.point, {"seed": name, "candidate": asdict(seed.candidate)})

    def _enqueue(self, point: Mapping[str, int], attributes: Mapping[str, Any]) -> None:
        kept = {key: attributes[key] for key in ("seed", "candidate") if key in attributes}
        self._study.enqueue_trial(dict(point), user_attrs=kept)

    def _next(self) -> tuple[Trial, Candidate] | None:
        from optuna.distributions import IntDistribution

        distributions = {name: IntDistribution(0, len(values) - 1) for name, values in self.space.choices().items()}
        with self._lock:
            while not self.stopped and self._begun < self._trials and time.monotonic() < self._deadline:
                if self._begun % 2:
                    self._propose_a_neighbour()
                trial = self._study.ask(distributions)  # type: ignore[arg-type]
                given = trial.user_attrs.get("candidate")
                candidate = Candidate(**given) if given else self.space.candidate(trial.params)
                if candidate.identity not in self._seen:
                    self._seen.add(candidate.identity)
                    self._begun += 1
                    trial.set_user_attr("candidate", asdict(candidate))
                    return trial, candidate
                self._study.tell(trial, state=self._states.FAIL)  # nothing was tried
                if not self._propose_another():
                    return None
        return None

    def _propose_a_neighbour(self) -> None:
        """Propose one that is a step from the best so far, where one of those is left, else from the next best.

        The best: what exceeds the limits by the least together; of those within them what answers best, and of those
        that tie in that the fastest, as a selection has it.
        """
        if self._study.get_trials(deepcopy=False, states=[self._states.WAITING]):
            return
        ended = self._study.get_trials(deepcopy=False, states=[self._states.COMPLETE])
        top = max((trial.value or 0.0 for trial in ended if not _excess(trial)), default=0.0)

        def rank(trial: FrozenTrial) -> tuple[float, float, float, int]:
            quality = trial.value or 0.0
            tied = quality >= top - TIE * abs(top)
            return _excess(trial), -(top if tied else quality), trial.constraints.get("p50", 0.0), trial.number

        for trial in sorted(ended, key=rank):
            near = [point for point in self.space.neighbours(trial.params) if self._is_new(point)]
            if near:
                self._enqueue(random.Random(len(self._seen)).choice(near), {})
                return

    def _propose_another(self) -> bool:
        """Propose a random candidate that was not tried yet; return whether there is one, as far as can be seen."""
        draw = random.Random(len(self._seen))
        for _ in range(PATIENCE):
            point = {name: draw.randrange(len(values)) for name, values in self.space.choices().items()}
            if self._is_new(point):
                self._enqueue(point, {})
                return True
        return False

    def _is_new(self, point: Mapping[str, int]) -> bool:
        return self.space.candidate(point).identity not in self._seen

    # ---- trying

    def _work(self) -> None:
        while (proposed := self._next()) is not None:
            trial, candidate = proposed
            known: dict[str, float] = {}
            try:
                outcome = self._climb(trial, candidate, known)
            except WorkerKilled:
                self.stopped = True
                raise
            except NoTime:
                self._say(f"{_name(trial)}: {candidate}: there is no time for its training; the same command goes on")
                continue
            except Refused as refusal:
                outcome, known["refused"] = Outcome(f"refused: {refusal}"), 1.0
            except Exception as error:
                # one candidate that breaks a library must not end the search, and a full disk, which a library may
                # report as anything, must not end a trial: it stays open, as a killed one does
                if not self.stopped:
                    self.failed.append(f"failed: {type(error).__name__}: {error}")
                    self._say(f"{_name(trial)}: {candidate}: {self.failed[-1]}; the same command tries it again")
                continue
            if self.stopped:
                return
            self._end(trial, known, outcome)
            self._say(f"{_name(trial)}: {candidate}: {outcome.text}")

    def _end(self, trial: Trial, known: Mapping[str, float], outcome: Outcome) -> None:
        """Keep what came of a trial; from the moment its outcome is there it is not tried again."""
        for limit, excess in known.items():
            trial.set_constraint(limit, excess)
        trial.set_user_attr("nearest", dict(self._nearest))
        trial.set_user_attr("outcome", asdict(outcome))
        if outcome.row is None:
            self._study.tell(trial, state=self._states.PRUNED)
        else:
            self._study.tell(trial, outcome.row["quality_vs_teacher"])

    def _climb(self, trial: Trial, candidate: Candidate, known: dict[str, float]) -> Outcome:
        """Take a candidate from effort to effort, as far as it is worth it.

        known: filled with how far each limit is exceeded, as a share of it, as soon as that is known.
        """
        if candidate.passes:  # else there is nothing to train
            for effort, when in (("untrained", "before training"), ("short", "after a short training")):
                begun = time.monotonic()
                row = self._look(candidate, effort, known)
                if over := self._out_of_reach(known, effort):
                    words = ", ".join(
                        f"{WORDS[limit]} is {excess:.0%} over its limit" for limit, excess in over.items()
                    )
                    return Outcome(f"given up {when}: {words}", out_of_reach=list(over))
            trial.report(row["quality_vs_teacher"], step=1)
            # the nearest to limits that nothing meets is trained, whatever its quality
            if not self._exceeded(known, "short") and trial.should_prune():
                share = f"{row['quality_vs_teacher']:.1%} of the teacher's quality"
                return Outcome(f"given up after a short training: {share}, others have more")
            if time.monotonic() + SHORT * (time.monotonic() - begun) > self._deadline:
                raise NoTime
        row = self._look(candidate, "full", known)
        known["quality"] = self.budget.min_quality - row["quality_vs_teacher"]
        self._out_of_reach(known, "full")
        beside = [f"{WORDS[limit]} {excess:+.0%}" for limit, excess in known.items() if limit in WORDS]
        share = f"{row['quality_vs_teacher']:.1%} of the teacher's quality"
        return Outcome(f"{share}, {megabytes_text(row['size_bytes'])} MB; to its limit: {', '.join(beside)}", row)

    def _look(self, candidate: Candidate, effort: str, known: dict[str, float]) -> dict[str, Any]:
        row = self._evaluate(candidate, effort)
        p50 = self._estimate(row, effort)
        known["size"] = row["size_bytes"] / (self.budget.max_size_mb * 1e6) - 1
        if p50 is not None:
            known["p50"] = p50 / self.budget.max_p50_ms - 1
        return row

    def _out_of_reach(self, known: Mapping[str, float], effort: str) -> dict[str, float]:
        """Return the limits exceeded beyond doubt, and how far; none for what is nearer to them than all before.

        So the search also goes on where nothing is within reach, towards the nearest miss.
        """
        over = self._exceeded(known, effort)
        together = sum(over.values())
        with self._lock:
            nearest = self._nearest[effort]
            self._come_nearer(dict.fromkeys(EFFORTS if effort == "full" else [effort], together))
        return over if together >= nearest else {}

    @staticmethod
    def _exceeded(known: Mapping[str, float], effort: str) -> dict[str, float]:
        return {limit: known[limit] for limit, slack in SLACK.items() if known.get(limit, 0.0) > slack[effort]}

    def _come_nearer(self, found: Mapping[str, float]) -> None:
        self._nearest.update({effort: min(excess, self._nearest[effort]) for effort, excess in found.items()})


def _excess(trial: FrozenTrial) -> float:
    return sum(max(0.0, excess) for excess in trial.constraints.values())


def _name(trial: Any) -> str:
    return str(trial.user_attrs.get("seed") or f"trial-{trial.number}")

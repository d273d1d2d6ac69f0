"""The flow against DVC itself: same results, in parallel, whatever fails or is killed."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from components.core.errors import ModelpressError
from components.core.threads import threads
from pipelines.dag import IN_USE, why_stale
from tests.flows.conftest import Repository

pytestmark = pytest.mark.timeout(240)


def stage(cmd: str, outs: str, deps: list[str] | None = None) -> dict[str, object]:
    return {"cmd": cmd, "outs": [outs], **({"deps": deps} if deps else {})}


def diamond(pause: float = 0.0) -> dict[str, object]:
    sides = {"cmd": f"sleep {pause}; cat source.txt > ${{item}}.txt; echo ${{item}} >> ${{item}}.txt",
             "deps": ["source.txt"], "outs": ["${item}.txt"]}  # fmt: skip
    return {
        "source": stage(f"sleep {pause}; echo source > source.txt", "source.txt"),
        "side": {"foreach": ["left", "right", "middle"], "do": sides},
        "join": stage(
            "cat left.txt right.txt middle.txt > join.txt", "join.txt", ["left.txt", "right.txt", "middle.txt"]
        ),
    }


def interval(path: Path) -> tuple[float, float]:
    start, end = path.read_text().split()
    return float(start), float(end)


def timed(name: str, seconds: float, deps: list[str] | None = None) -> dict[str, object]:
    return stage(f"(date +%s.%N; sleep {seconds}; date +%s.%N) > {name}", name, deps)


def meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


@pytest.mark.parametrize("jobs", [(), ("--jobs", "3")])
def test_flow_gives_the_same_dvc_lock_as_dvc_repro_and_caches_afterwards(
    make_repository: Callable[[str], Repository], jobs: tuple[str, ...]
) -> None:
    flow, plain = make_repository("flow"), make_repository("plain")
    for repository in (flow, plain):
        repository.write(diamond())
    first = flow.flow(*jobs)
    plain.dvc("repro")
    assert first.code == 0, first.output
    assert set(first.states.values()) == {"Completed"}
    assert flow.lock() == plain.lock()
    again = flow.flow(*jobs)
    assert again.code == 0
    assert set(again.states.values()) == {"Cached"}
    assert flow.lock() == plain.lock()


def test_flow_reruns_only_what_changed_and_restores_from_the_run_cache(repository: Repository) -> None:
    repository.write(diamond())
    repository.flow()
    changed = diamond()
    changed["source"] = stage("echo other > source.txt", "source.txt")
    repository.write(changed)
    assert set(repository.flow().states.values()) == {"Completed"}
    repository.write(diamond())
    back = repository.flow().states
    assert back.pop("source") == "Completed"  # DVC's run cache keeps no stage without dependencies
    assert set(back.values()) == {"Restored"}
    changed["source"] = stage("echo source > source.txt; true", "source.txt")  # another command, the same output
    repository.write(changed)
    states = repository.flow().states
    assert states.pop("source") == "Completed"
    assert set(states.values()) == {"Cached"}


def test_flow_runs_independent_stages_together_and_a_measuring_stage_alone(repository: Repository) -> None:
    stages = {name: timed(name, 1.0) for name in ("one", "two", "three")}
    repository.write({**stages, "measure": {"foreach": ["x"], "do": timed("measured", 0.5)}})
    run = repository.flow("--jobs", "4")
    assert run.code == 0, run.output
    times = {name: interval(repository.root / name) for name in (*stages, "measured")}
    assert max(start for start, _ in (times[name] for name in stages)) < min(times[name][1] for name in stages)
    assert not any(meet(times["measured"], times[name]) for name in stages)


def test_without_a_number_of_jobs_trainings_run_alone_and_light_stages_together(repository: Repository) -> None:
    light = {name: timed(name, 1.0) for name in ("one", "two")}
    trainings = {"foreach": ["a", "b"], "do": timed("${item}", 0.5)}
    repository.write({**light, "train": trainings})
    run = repository.flow()
    assert run.code == 0, run.output
    a, b, one, two = (interval(repository.root / name) for name in ("a", "b", "one", "two"))
    assert not meet(a, b)
    assert max(a[1], b[1]) <= min(one[0], two[0])  # trainings first: behind them is enough for every core
    assert meet(one, two) == (threads() > 1)


def test_with_a_number_of_jobs_the_longest_chain_goes_first(repository: Repository) -> None:
    dataset = {f"a{number}": timed(f"a{number}", 0.1) for number in range(3)}
    teacher = {"foreach": ["x"], "do": timed("teacher", 0.1)}
    student = {"foreach": ["y"], "do": timed("student", 0.1, ["teacher"])}
    repository.write({**dataset, "train": teacher, "compress": student})
    run = repository.flow("--jobs", "1")
    assert run.code == 0, run.output
    begun = {name: interval(repository.root / name)[0] for name in (*dataset, "teacher", "student")}
    assert sorted(begun, key=begun.__getitem__) == ["teacher", "student", *dataset]


def test_flow_skips_dependants_and_finishes_the_rest_when_a_stage_fails(repository: Repository) -> None:
    stages = {
        "bad": stage("echo x >> tries; echo the last words >&2; exit 1", "bad.txt"),
        "mistaken": stage("echo x >> mistakes; echo unknown key; exit 2", "mistaken.txt"),
        "after": stage("cat bad.txt > after.txt", "after.txt", ["bad.txt"]),
        "last": stage("cat after.txt > last.txt", "last.txt", ["after.txt"]),
        "free": stage("sleep 1; echo free > free.txt", "free.txt"),
        "slow": stage("sleep 60; echo slow > slow.txt", "slow.txt"),
    }
    repository.write(stages, {"stages": {"retries": 2, "retry_delay_s": 0.1, "timeout_s": {"slow": 1}}})
    started = time.monotonic()
    run = repository.flow("--jobs", "2")
    assert run.code == 1
    assert time.monotonic() - started < 40
    expected = {
        "bad": "Failed",
        "mistaken": "Failed",
        "after": "Skipped",
        "last": "Skipped",
        "free": "Completed",
        "slow": "Failed",
    }
    assert run.states == expected, run.output
    assert repository.text("tries").count("x") == 3
    assert repository.text("mistakes").count("x") == 1
    assert "the last words" in run.output
    assert "longer than its limit of 1 s" in run.output
    assert set(yaml.safe_load(repository.lock())["stages"]) == {"free"}


@pytest.mark.parametrize("seed", range(3))
def test_flow_goes_on_after_kill_9_and_leaves_no_orphan(
    make_repository: Callable[[str], Repository], seed: int
) -> None:
    killed, plain = make_repository("killed"), make_repository("plain")
    for repository in (killed, plain):
        repository.write(diamond(pause=0.7))
    process = killed.start()
    while not killed.processes():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0.0, 2.0))  # of about three seconds
    assert process.poll() is None
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while killed.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert killed.processes() == []
    run = killed.flow()
    assert run.code == 0, run.output
    plain.dvc("repro")
    assert killed.lock() == plain.lock()
    assert killed.text("join.txt") == plain.text("join.txt")


def test_flow_resumes_when_all_its_processes_were_killed_and_dvc_notes_are_broken(repository: Repository) -> None:
    repository.write(diamond(pause=2))
    process = repository.start()
    while not any("sleep" in " ".join(found.cmdline()) for found in repository.processes()):
        time.sleep(0.1)
    for found in (psutil.Process(process.pid), *repository.processes()):
        found.kill()
    process.wait()
    notes = repository.root / ".dvc" / "tmp" / "rwlock"
    assert "source.txt" in notes.read_text()
    # the number of the killed process is now another's: DVC alone would wait for it to end
    notes.write_text(re.sub(r'"pid": \d+', '"pid": 1', notes.read_text()))
    run = repository.flow("--jobs", "3")
    assert run.code == 0, run.output
    notes.write_text('{"write": {"/x": {"pi')  # a kill amid DVC's write
    assert repository.flow().code == 0


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_edited_while_a_stage_runs_makes_it_stale(repository: Repository, force: tuple[str, ...]) -> None:
    command = "cp source.txt used; touch begun; while [ -e begun ]; do sleep 0.1; done"
    depth: dict[str, object] = {"params": [{"depth.yaml": ["depth"]}]}
    repository.write({"use": {**stage(command, "used", ["source.txt"]), **depth}})
    (repository.root / "source.txt").write_text("first")
    (repository.root / "depth.yaml").write_text("depth: 1")
    process, begun = repository.start(*force), repository.root / "begun"
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.05)
    assert why_stale(repository.root)["use"] == [IN_USE]
    (repository.root / "depth.yaml").write_text("depth: 2")
    (repository.root / "source.txt").write_text("second")
    begun.unlink()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert why_stale(repository.root)["use"] == ["source.txt modified", "depth: 1 -> 2"]
    repository.write({"use": {**stage("cp source.txt used", "used", ["source.txt"]), **depth}})
    assert repository.flow().states == {"use": "Completed"}
    assert repository.text("used") == "second"
    assert why_stale(repository.root)["use"] == []


def test_half_a_list_of_paths_in_use_is_one_line(repository: Repository) -> None:
    repository.write({"one": stage("echo 1 > one", "one")})
    (repository.root / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"/x": {"pi')
    with pytest.raises(ModelpressError, match="rwlock: half written by a process that was killed; `modelpress run`"):
        why_stale(repository.root)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_flow_ends_its_stages_promptly_when_interrupted(repository: Repository, how: signal.Signals) -> None:
    repository.write({name: stage(f"sleep 60; echo {name} > {name}", name) for name in ("one", "two")})
    process = repository.start("--jobs", "2")
    while sum("sleep 60" in " ".join(found.cmdline()) for found in repository.processes()) < 2:
        time.sleep(0.1)
    process.send_signal(how)
    started = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - started < 15
    assert process.returncode != 0
    assert repository.processes() == []
    assert not (repository.root / "dvc.lock").exists()


def test_a_stage_that_is_stopped_may_finish_what_it_must(repository: Repository) -> None:
    loop = "trap 'sleep 1; echo bye > said; exit 1' TERM; touch begun; while true; do sleep 0.1; done"
    repository.write({"one": stage(loop, "one")})
    process = repository.start()
    while not (repository.root / "begun").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert repository.text("said") == "bye\n"
    assert repository.processes() == []


def test_flow_loses_nothing_when_many_stages_end_at_once(repository: Repository) -> None:
    names = [f"n{number}" for number in range(40)]
    repository.write({"many": {"foreach": names, "do": {"cmd": "echo ${item} > ${item}", "outs": ["${item}"]}}})
    run = repository.flow("--jobs", "8")
    assert run.code == 0, run.output
    assert list(yaml.safe_load(repository.lock())["stages"]) == [f"many@{name}" for name in names]
    assert "lock" not in run.output.lower().replace("dvc.lock", "")


def test_flow_needs_no_server(repository: Repository) -> None:
    repository.write({"one": stage("echo 1 > one", "one")})
    del repository.env["PREFECT_API_URL"]
    run = repository.flow()
    assert run.code == 0, run.output
    assert (repository.root / ".modelpress" / "prefect" / "prefect.db").is_file()
    assert repository.processes() == []


def test_flow_refuses_a_second_run_in_the_same_folder(repository: Repository) -> None:
    repository.write({"one": stage("sleep 8; echo 1 > one", "one")})
    first = repository.start()
    while not repository.processes():
        time.sleep(0.1)
    second = repository.flow()
    first.communicate(timeout=60)
    assert second.code == 1
    assert f"another run is going on here (process {first.pid})" in second.output
    assert first.returncode == 0

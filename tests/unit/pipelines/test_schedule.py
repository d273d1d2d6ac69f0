"""When stages may start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.schedule import Schedule

GRAPHS = st.integers(1, 12).flatmap(
    lambda size: st.tuples(*(st.sets(st.integers(0, index - 1)) if index else st.just(set()) for index in range(size)))
)


def names(graph: tuple[set[int], ...]) -> dict[str, list[str]]:
    return {f"s{index}": [f"s{other}" for other in sorted(others)] for index, others in enumerate(graph)}


@given(GRAPHS, st.integers(1, 5), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)), st.randoms())
def test_schedule_ends_every_stage_once_and_keeps_its_promises(graph, jobs, alone, failing, random) -> None:  # type: ignore[no-untyped-def]
    depends_on = names(graph)
    schedule = Schedule(depends_on, jobs, alone=lambda name: int(name[1:]) in alone)
    running: set[str] = set()
    ended: dict[str, str] = {}
    while not schedule.done:
        for name in schedule.start():
            assert all(ended[other] == "succeeded" for other in depends_on[name])
            running.add(name)
        assert running, "nothing runs and nothing starts: it would wait for ever"
        assert len(running) <= jobs
        assert len(running) == 1 or not any(int(name[1:]) in alone for name in running)
        name = random.choice(sorted(running))
        running.remove(name)
        succeeded = int(name[1:]) not in failing
        ended[name] = "succeeded" if succeeded else "failed"
        schedule.finish(name, succeeded)
        for doomed in schedule.doomed():
            assert any(ended.get(other) in ("failed", "skipped") for other in depends_on[doomed])
            assert doomed not in ended
            ended[doomed] = "skipped"
    assert ended.keys() == depends_on.keys()


def test_start_lets_nothing_overtake_a_stage_that_waits_to_run_alone() -> None:
    schedule = Schedule({"a": [], "measure": [], "b": []}, jobs=3, alone=lambda name: name == "measure")
    assert schedule.start() == ["a"]
    schedule.finish("a", True)
    assert schedule.start() == ["measure"]
    assert schedule.start() == []
    schedule.finish("measure", True)
    assert schedule.start() == ["b"]

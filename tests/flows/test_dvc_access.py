"""DVC's private names that modelpress uses: a new DVC that moves one fails here, not in a run."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import dvc_access
from pipelines.dag import is_stale, read_plan, why_stale
from tests.flows.conftest import Repository


def test_private_names_exist_with_the_arguments_used() -> None:
    import dvc.dvcfile
    import dvc.lock
    import dvc.rwlock
    import dvc.stage.run
    from dvc.repo import Repo
    from dvc.repo.reproduce import plan_repro
    from dvc.stage.serialize import to_single_stage_lockfile

    assert "_wait_for_lock" in inspect.signature(Repo.__init__).parameters
    assert isinstance(dvc.lock.DEFAULT_TIMEOUT, int | float)
    assert "default_retries = 6" in inspect.getsource(dvc.lock.Lock.lock)
    assert list(inspect.signature(dvc.stage.run._run).parameters)[:2] == ["executable", "cmd"]
    assert "_run(executable, cmd" in inspect.getsource(dvc.stage.run.cmd_run)
    assert "modify_yaml(self.path" in inspect.getsource(dvc.dvcfile.Lockfile.dump_stages)
    assert list(inspect.signature(plan_repro).parameters)[:2] == ["graph", "stages"]
    assert callable(to_single_stage_lockfile)
    assert dvc.rwlock.RWLOCK_FILE == "rwlock"


def test_exit_code_is_read_from_dvcs_error() -> None:
    from dvc.stage.exceptions import StageCmdFailedError

    assert dvc_access.command_exit_code(StageCmdFailedError("x", 2)) == 2
    assert dvc_access.command_exit_code(StageCmdFailedError("x, exited with 3")) == 3
    assert dvc_access.command_exit_code(ValueError("exited with 2")) is None


def test_lock_file_is_replaced_whole_when_written(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    import dvc.dvcfile

    repository.write({"one": {"cmd": "echo 1 > one", "outs": ["one"]}})
    repository.dvc("repro")
    monkeypatch.setattr(dvc.dvcfile, "modify_yaml", dvc.dvcfile.modify_yaml)
    dvc_access.commit_files_atomically()
    path, before = repository.root / "dvc.lock", repository.lock()
    with path.open() as held, dvc.dvcfile.modify_yaml(str(path)) as data:
        data["stages"]["two"] = {"cmd": "true"}
        inode = Path(path).stat().st_ino
    assert path.stat().st_ino != inode
    assert held.closed
    assert yaml.safe_load(path.read_text())["stages"].keys() == {"one", "two"}
    assert repository.lock().startswith(before)


def test_plan_follows_dvcs_order_and_says_what_is_stale(repository: Repository) -> None:
    repository.write({
        "use": {"cmd": "cat made > used", "deps": ["made"], "params": ["depth"], "outs": ["used"]},
        "make": {"cmd": "echo 1 > made", "outs": ["made"]},
        "alone": {"cmd": "echo 2 > alone", "outs": ["alone"]},
    }, {"depth": 1})  # fmt: skip
    root = repository.root
    plan = read_plan(root, ["use"])
    assert list(plan) == ["make", "use"]
    assert plan["use"].depends_on == ("make",)
    assert all(stage.stale for stage in plan.values())
    repository.dvc("repro")
    assert list(yaml.safe_load(repository.lock())["stages"]) == list(read_plan(root))
    assert not any(stage.stale for stage in read_plan(root).values())
    repository.write(yaml.safe_load(repository.text("dvc.yaml"))["stages"], {"depth": 2})
    plan = read_plan(root)
    assert [name for name, stage in plan.items() if stage.stale] == ["use"]
    assert is_stale(root, "use")
    assert why_stale(root)["use"] == ["depth: 1 -> 2"]


def test_params_are_parsed_once_for_a_whole_plan(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    import dvc.dependency.param as param

    stages = {name: {"cmd": f"echo 1 > {name}", "params": ["depth"], "outs": [name]} for name in ("a", "b", "c")}
    repository.write(stages, {"depth": 1})
    repository.dvc("repro")
    read, load = [], param.load_path

    def counted(path: str, *arguments: Any, **options: Any) -> Any:
        read.append(path)
        return load(path, *arguments, **options)

    monkeypatch.setattr(param, "load_path", counted)
    assert not any(stage.stale for stage in read_plan(repository.root).values())
    assert len(read) == 1
    repository.write(stages, {"depth": 2})  # the next plan reads the file as it is then
    assert all(stage.stale for stage in read_plan(repository.root).values())

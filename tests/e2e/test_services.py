"""A scheduled run with the compose file's services: MLflow on PostgreSQL, artifacts and DVC's cache in S3."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from dockerfile_parse import DockerfileParser

from components.core.files import sha256_tree
from tests.e2e.services import SECRETS, Services, postgres_programs, wait
from tests.workspace import REPOSITORY, make_workspace, workspace_environment

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed (apt-get install postgresql)"),
]
VARIANT = "tiny-fp32"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """PostgreSQL, S3 with its buckets, MLflow and Prefect."""
    with Services(tmp_path_factory.mktemp("services")) as running:
        running.start_postgres()
        running.start("s3", ["moto_server", "--host=127.0.0.1", "--port=0"])
        wait(lambda: requests.get(running.url("s3"), timeout=5).ok, requests.ConnectionError)
        assert running.start("buckets").wait(timeout=120) == 0, running.log("buckets")
        hosts = running.compose["services"]["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
        running.start("mlflow", MLFLOW_SERVER_ALLOWED_HOSTS=f"{hosts},127.0.0.1:{running.ports['mlflow']}")
        running.start("prefect")
        wait(lambda: requests.get(f"{running.url('mlflow')}/health", timeout=5).ok, requests.ConnectionError)
        wait(lambda: requests.get(f"{running.url('prefect')}/api/health", timeout=5).ok, requests.ConnectionError)
        yield running


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose nightly deployment runs every minute."""
    root = make_workspace(tmp_path_factory.mktemp("worker") / "workspace", [VARIANT])
    shutil.copytree(REPOSITORY / "deploy/docker", root / "deploy/docker")
    prefect = (REPOSITORY / "prefect.yaml").read_text()
    assert '{cron: "0 3 * * *", timezone: UTC, active: true}' in prefect
    (root / "prefect.yaml").write_text(prefect.replace('"0 3 * * *"', '"* * * * *"'))
    author = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run(["git", *author, "commit", "-qm", "deployment"], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def flow_run(services: Services, workspace: Path) -> dict[str, Any]:
    """The first run the schedule brought, ended."""
    command = ["sh", str(workspace / "deploy/docker/start_worker.sh")]
    worker = services.start("worker", command, workspace, **_of_workspace(workspace))

    def ended() -> dict[str, Any] | None:
        runs = requests.post(f"{services.url('prefect')}/api/flow_runs/filter", json={}, timeout=10).json()
        done = [run for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
        assert worker.poll() is None, services.log("worker")
        pushed = "pushed to s3://dvc/cache" in services.log(
            "worker"
        )  # run_flow.sh's last word, after the state is final
        return done[0] if done and pushed else None

    run = wait(ended, seconds=900)
    services.end(worker)
    return dict(run)


def _of_workspace(workspace: Path) -> dict[str, str]:
    names = ("MODELPRESS_DATA_MIRROR", "MODELPRESS_THREADS", "DVC_NO_ANALYTICS", "PYTHONUNBUFFERED")
    return {name: workspace_environment(workspace)[name] for name in names}


def _objects(services: Services, bucket: str) -> set[str]:
    import boto3

    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    key, secret, endpoint, region = (services.environment("mlflow")[name] for name in names)
    s3 = boto3.resource(
        "s3", aws_access_key_id=key, aws_secret_access_key=secret, endpoint_url=endpoint, region_name=region
    )
    return {entry.key for entry in s3.Bucket(bucket).objects.all()}


def test_schedule_brings_a_run_that_completes(flow_run: dict[str, Any], services: Services) -> None:
    assert flow_run["state_type"] == "COMPLETED", services.log("worker")
    assert flow_run["auto_scheduled"] is True


@pytest.mark.usefixtures("flow_run")
def test_run_is_recorded_in_postgresql(services: Services) -> None:
    stages = services.query(
        "mlflow", "SELECT t.value FROM tags t JOIN runs r USING (run_uuid) WHERE r.status = 'FINISHED'"
    )
    assert any("train" in value for (value,) in stages)
    assert services.query("mlflow", "SELECT count(*) FROM metrics")[0][0] > 10
    assert services.query("mlflow", "SELECT name, version FROM model_versions") == [("tiny", 1)]
    ((state,),) = services.query("prefect", "SELECT DISTINCT state_type FROM flow_run WHERE state_type = 'COMPLETED'")
    assert state == "COMPLETED"


@pytest.mark.usefixtures("flow_run")
def test_artifacts_and_dvcs_cache_lie_in_s3(services: Services, workspace: Path) -> None:
    artifacts = _objects(services, "mlflow")
    assert any(key.endswith("bundle/manifest.json") for key in artifacts)
    assert any(key.endswith("bundle/translate.onnx") for key in artifacts)
    cache = _objects(services, "dvc")
    assert any("/files/md5/" in key for key in cache)
    assert any("/runs/" in key for key in cache)
    assert not any((workspace / ".dvc" / "config").read_text().count(secret) for secret in SECRETS.values())


@pytest.mark.usefixtures("flow_run")
def test_fresh_clone_gets_from_s3_what_the_worker_made(services: Services, workspace: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(workspace), str(clone)], check=True)
    environment = services.environment("worker", {**_of_workspace(workspace), "MODELPRESS_PULL": "1"})
    remote = ["dvc", "remote", "add", "-q", "--local", "-d", "storage", environment["MODELPRESS_REMOTE"]]
    subprocess.run(remote, cwd=clone, env=environment, check=True)
    run = ["python", "-m", "pipelines.cli", "run"]
    done = subprocess.run(run, cwd=clone, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    restored = set(re.findall(r"(\S+) Restored", done.stdout))
    # package, select and report keep their last good outputs when they fail; DVC's run cache leaves such stages out
    assert {"prepare@tiny", "train@tiny", f"export@{VARIANT}", f"evaluate@{VARIANT}"} <= restored, done.stdout
    assert "register@tiny done" in done.stdout
    assert sha256_tree(clone / "bundles") == sha256_tree(workspace / "bundles")
    assert services.query("mlflow", "SELECT count(*) FROM model_versions") == [
        (1,)
    ]  # the same bundle is no new version


def test_mlflow_knows_the_names_compose_gives_it_and_no_others(services: Services) -> None:
    url = f"{services.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"
    assert requests.get(url, headers={"Host": "mlflow:5000"}, timeout=30).status_code == 200
    assert requests.get(url, headers={"Host": "evil.example:5000"}, timeout=30).status_code == 403


@pytest.mark.usefixtures("flow_run")
def test_model_server_of_the_image_serves_the_champion(services: Services, workspace: Path, tmp_path: Path) -> None:
    environment = services.environment("worker", _of_workspace(workspace))
    promoted = subprocess.run(
        ["python", "-m", "pipelines.cli", "promote", "tiny", "1", "--force"],
        cwd=workspace, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    parser = DockerfileParser(path=str(tmp_path))
    parser.content = (REPOSITORY / "deploy/docker/Dockerfile").read_text()
    (entry,) = [json.loads(step["value"]) for step in parser.structure if step["instruction"] == "ENTRYPOINT"]
    options = [word for word in entry[2:] if word not in ("--host", "0.0.0.0", "--port", "8080")]
    command = ["python", "-m", "pipelines.cli", "serve", *options, "--host=127.0.0.1", "--port=0",
               *services.compose["services"]["server"]["command"]]  # fmt: skip
    services.start("server", command, tmp_path, PYTHONPATH=str(REPOSITORY))
    url = services.url("server")
    wait(lambda: requests.get(f"{url}/v2/health/ready", timeout=5).ok, requests.ConnectionError)
    assert requests.get(f"{url}/v2/models/tiny", timeout=5).status_code == 401
    token = {"Authorization": f"Bearer {SECRETS['MODELPRESS_TOKEN']}"}
    described = requests.get(f"{url}/v2/models/tiny", headers=token, timeout=5).json()
    assert described["versions"] == ["1"]
    assert yaml.safe_load(requests.get(f"{url}/openapi.json", headers=token, timeout=5).text)["paths"]

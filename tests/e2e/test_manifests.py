"""What no engine here can run is held against its published schema, and the commands in it against the real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement

from pipelines.cli import app
from pipelines.prefect_server import free_port, responds
from tests.workspace import REPOSITORY

DOCKER, KUBERNETES = REPOSITORY / "deploy" / "docker", REPOSITORY / "deploy" / "kubernetes"
KUBERNETES_VERSIONS = ("1.31", "1.34")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def accept_serve(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what `modelpress serve` takes of a command line; it exits where it would not take it."""
    command = typer.main.get_command(app)
    serve = command.commands["serve"]  # type: ignore[attr-defined]
    return dict(serve.make_context("serve", list(arguments)).params)


# compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(read_yaml(DOCKER / "compose.yaml"))


def test_compose_file_meets_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = json.loads(
        files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    )
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []


def test_compose_file_names_only_what_it_declares(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for other, condition in service.get("depends_on", {}).items():
            needed = compose["services"][other]
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in needed, f"{name} waits for {other}"
            else:
                assert needed["restart"] in ("no", "on-failure"), f"{other} never completes"
        named = [volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith((".", "/"))]
        assert set(named) <= compose["volumes"].keys()
        assert {config["source"] for config in service.get("configs", [])} <= compose["configs"].keys()
        assert set(service["networks"]) <= compose["networks"].keys()
        build = service.get("build")
        assert build is None or (DOCKER / build["context"] / build["dockerfile"]).resolve().is_file()


def test_compose_file_opens_ports_on_loopback_only_and_knows_no_password(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    text = (DOCKER / "compose.yaml").read_text()
    variables = set(re.findall(r"\$\{(\w+)", text))
    example = {
        line.partition("=")[0]
        for line in (DOCKER / "env.example").read_text().splitlines()
        if "=" in line and line[0] != "#"
    }
    assert variables == example
    for secret in ("POSTGRES_PASSWORD", "S3_SECRET_KEY", "MODELPRESS_TOKEN"):
        assert f"${{{secret}:?" in text, f"an empty {secret} must stop `up`"


def test_compose_files_server_and_mlflow_take_their_command_lines(compose: dict[str, Any]) -> None:
    import mlflow.cli

    services = compose["services"]
    entry = image_of_server().structure_command("ENTRYPOINT")
    taken = accept_serve([*entry[2:], *services["server"]["command"]])
    assert (taken["host"], taken["port"]) == ("0.0.0.0", 8080)
    program, command, *options = services["mlflow"]["command"]
    assert program == "mlflow"
    server = mlflow.cli.cli.commands[command]
    known = {option.envvar for option in server.params if isinstance(option.envvar, str)}
    server.make_context("server", options, resilient_parsing=True)
    assert {name for name in services["mlflow"]["environment"] if name.startswith("MLFLOW_")} <= known | {
        "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    }  # fmt: skip


# images


class Image:
    """A Dockerfile, its stages and what it copies."""

    def __init__(self, path: Path, scratch: Path) -> None:
        scratch.mkdir(exist_ok=True)
        parser = DockerfileParser(path=str(scratch))
        parser.content = path.read_text(encoding="utf-8")
        self.steps = [
            (step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"
        ]
        self.ignore = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()

    def structure_command(self, instruction: str) -> list[str]:
        """Return the words of the last ENTRYPOINT or CMD, which must be in its JSON form (it gets signals itself)."""
        words: list[str] = json.loads([value for name, value in self.steps if name == instruction][-1])
        return words

    def final_stage(self) -> list[tuple[str, str]]:
        last = max(index for index, (name, _) in enumerate(self.steps) if name == "FROM")
        return self.steps[last:]

    def copied(self) -> list[str]:
        values = [value.split() for name, value in self.steps if name == "COPY" and not value.startswith("--from")]
        return [source for *sources, _ in values for source in sources]


def image_of_server() -> Image:
    with tempfile.TemporaryDirectory() as scratch:
        return Image(DOCKER / "Dockerfile", Path(scratch))


@pytest.fixture(params=["Dockerfile", "pipeline.Dockerfile"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Image:
    return Image(DOCKER / request.param, tmp_path / "parsed")


def test_image_is_built_in_stages_and_runs_as_a_numbered_user_that_is_not_root(image: Image) -> None:
    assert [name for name, _ in image.steps].count("FROM") == 2
    users = [value for name, value in image.final_stage() if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    bases = [value.split()[0] for name, value in image.steps if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.11-slim-\w+", base) for base in bases)


def test_image_copies_what_is_there_and_its_ignore_file_lets_it_in(image: Image) -> None:
    allowed = [line[1:] for line in image.ignore if line.startswith("!")]
    assert image.ignore[1] == "*"
    for source in image.copied():
        assert (REPOSITORY / source).exists()
        assert source in allowed


def test_image_of_the_server_starts_modelpress_serve() -> None:
    image = image_of_server()
    program, command, *options = image.structure_command("ENTRYPOINT")
    assert (program, command) == ("modelpress", "serve")
    taken = accept_serve([*options, *image.structure_command("CMD")])
    assert (taken["port"], taken["bundles"]) == (8080, ["/bundle"])
    assert ("EXPOSE", "8080") in image.steps


def closure(names: Sequence[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the packages that installing these would bring, by the metadata of those installed here."""
    found: set[str] = set()
    waiting = [(Requirement(name), extras) for name in names]
    while waiting:
        requirement, wanted = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in wanted | {""}):
            continue
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if key in found:
            continue
        found.add(key)
        try:
            children = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        waiting += [(Requirement(child), frozenset(requirement.extras)) for child in children]
    return found


def test_image_of_the_server_holds_no_torch_and_only_locked_versions() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (extra,) = {m for _, value in image_of_server().steps for m in re.findall(r'"\.\[(\w+)\]"', value)}
    packages = closure([*project["dependencies"], *project["optional-dependencies"][extra]])
    assert not packages & {"torch", "lightning", "onnx", "mlflow", "prefect", "dvc", "pandas", "scipy"}
    lock = (REPOSITORY / "requirements.lock").read_text().lower().replace("_", "-")
    assert sorted(name for name in packages if f"\n{name}==" not in f"\n{lock}") == []


# kubernetes


def manifests() -> dict[str, Any]:
    return {path.name: read_yaml(path) for path in sorted(KUBERNETES.glob("*.yaml"))}


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", sorted(manifests().keys() - {"kustomization.yaml"}))
def test_manifest_meets_kubernetes_strict_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(manifests()[name], version, strict=True)


def test_manifests_name_each_other_rightly() -> None:
    found = manifests()
    kustomization = found.pop("kustomization.yaml")
    assert set(kustomization["resources"]) == set(found)
    deployment, service = found["deployment.yaml"]["spec"], found["service.yaml"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = (
        deployment["selector"]["matchLabels"], service["selector"],
        found["disruption.yaml"]["spec"]["selector"]["matchLabels"],
        found["network.yaml"]["spec"]["podSelector"]["matchLabels"],
    )  # fmt: skip
    assert all(selector == labels for selector in selectors)
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert service["ports"][0]["targetPort"] in {port["name"] for port in container["ports"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["image"] in {image["name"] for image in kustomization["images"]}
    assert {config["name"] for config in kustomization["configMapGenerator"]} >= {
        source["configMapRef"]["name"] for source in container["envFrom"]
    }


def test_pods_are_confined_probed_limited_and_replaced_without_a_gap() -> None:
    spec = manifests()["deployment.yaml"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    user = [value for name, value in image_of_server().steps if name == "USER"][-1].split(":")[0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(user)
    own = container["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"]["drop"] == ["ALL"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/v2/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert container["resources"]["requests"].keys() <= container["resources"]["limits"].keys()
    entry = image_of_server().structure_command("ENTRYPOINT")
    taken = accept_serve([*entry[2:], *container["args"]])
    assert str(taken["require_signature"]).startswith(
        next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "signer")
    )
    assert taken["port"] == container["ports"][0]["containerPort"]


# prefect


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a Prefect server of its own."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port(4300)
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            if responds(f"{url}/api/health"):
                break
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.5)
        yield environment
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_deployments_are_taken_by_a_prefect_server_on_all_three_kinds_of_pool(prefect: dict[str, str]) -> None:
    def call(*command: str, **more: str) -> str:
        done = subprocess.run(
            ["prefect", "--no-prompt", *command],
            cwd=REPOSITORY,
            env={**prefect, **more},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    declared = {each["name"]: each for each in read_yaml(REPOSITORY / "prefect.yaml")["deployments"]}
    for deployment in declared.values():
        pool = deployment["work_pool"]["name"]
        kind = pool.partition("-")[2] or "process"
        call("work-pool", "create", pool, "--type", kind)
    call("deploy", "--all", MLFLOW_TRACKING_URI="http://mlflow:5000")
    for name, deployment in declared.items():
        found = json.loads(call("deployment", "inspect", f"modelpress/{name}", "--output", "json"))
        assert found["work_pool_name"] == deployment["work_pool"]["name"]
        (schedule,) = found["schedules"]
        assert schedule["schedule"]["cron"] == "0 3 * * *"
        assert schedule["active"] is (name == "nightly")
        variables = found["job_variables"]
        assert "run_flow.sh" in variables["command"]
        environment = variables.get("env", {})
        assert "$" not in json.dumps(environment), "a variable that is not set must leave no placeholder"
        if name != "nightly":
            assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"

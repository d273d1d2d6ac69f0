from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.bundle import SIGNATURE, Bundle
from components.core.errors import ModelpressError
from deploy.edge.export import export_edge, needed_sources, requirements
from tests.word_bundle import translation, write_word_bundle

SCRIPT_AND_LISTS = {"run.py", "report.py", "requirements.txt", "README.txt"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_bundle(tmp_path_factory.mktemp("words") / "bundle", 3)


@pytest.fixture(scope="module")
def device(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("device") / "words"
    export_edge(bundle, out)
    return out


def run(device: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script from another folder, with nothing of the repository on the path."""
    command = [sys.executable, "-E", str(device / "run.py"), *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=device.parent, check=False)


def test_folder_holds_the_bundle_and_only_the_sources_the_predictor_needs(bundle: Path, device: Path) -> None:
    files = {path.relative_to(device).as_posix() for path in device.rglob("*") if path.is_file()}
    sources = {name for name in files if name.startswith("components/")}
    assert {"components/core/bundle.py", "components/inference/translation.py"} <= sources
    assert {name.split("/")[1] for name in sources if name.count("/") > 1} == {"core", "inference"}
    assert "components/inference/binary_addition.py" not in sources
    copied = {f"bundle/{path.relative_to(bundle).as_posix()}" for path in bundle.rglob("*") if path.is_file()}
    assert files - sources == SCRIPT_AND_LISTS | copied


def test_requirements_have_sentencepiece_only_when_the_bundle_has_a_model_of_it(bundle: Path, tmp_path: Path) -> None:
    sources = sorted(needed_sources("components.inference.translation"))
    words = Bundle.load(bundle).manifest
    subwords = Bundle.save(shutil.copytree(bundle, tmp_path / "subwords"), words)
    (subwords.root / "assets" / "source.model").write_bytes(b"")
    subwords = Bundle.save(subwords.root, words)
    names = [[line.split("==")[0] for line in requirements(sources, each)] for each in (words, subwords.manifest)]
    assert names == [["numpy", "onnxruntime"], ["numpy", "onnxruntime", "sentencepiece"]]


@pytest.mark.parametrize("how", ["text", "file", "standard input"])
def test_script_answers_each_line_however_it_is_given(device: Path, tmp_path: Path, how: str) -> None:
    lines = ["w1 w2"] if how == "text" else ["w1 w2", "w30", "w7 w8 w9"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    arguments = {"text": lines[:1], "file": ["--file", str(tmp_path / "lines.txt")], "standard input": ["-"]}[how]
    done = run(device, *arguments, given="\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [translation(line, 3) for line in lines]


@pytest.mark.parametrize("name", ["bundle/translate.onnx", "bundle/assets/target.txt", "bundle/golden.json"])
def test_script_refuses_in_one_line_when_a_file_was_changed(device: Path, tmp_path: Path, name: str) -> None:
    changed = shutil.copytree(device, tmp_path / "changed")
    (changed / name).write_bytes((changed / name).read_bytes()[:-1] + b"!")
    done = run(changed, "w1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "sha256 differs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["w1", "--report"], ["--file", "nowhere.txt"]])
def test_script_refuses_without_a_traceback_when_asked_wrongly(device: Path, arguments: list[str]) -> None:
    done = run(device, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_export_replaces_an_earlier_export_and_keeps_a_signature(bundle: Path, tmp_path: Path) -> None:
    signed = shutil.copytree(bundle, tmp_path / "signed")
    (signed / SIGNATURE).write_text("a signature")
    for _ in range(2):
        export_edge(signed, tmp_path / "device")
    assert (tmp_path / "device" / "bundle" / SIGNATURE).read_text() == "a signature"
    assert run(tmp_path / "device", "w1").returncode == 0


def test_export_leaves_a_folder_alone_when_it_holds_something_else(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ModelpressError, match=r"no run\.py of an earlier export"):
        export_edge(bundle, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_export_fails_and_leaves_nothing_when_the_bundle_was_changed(bundle: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(bundle, tmp_path / "changed")
    (changed / "golden.json").write_text("{}")
    with pytest.raises(ModelpressError, match="sha256 differs"):
        export_edge(changed, tmp_path / "device")
    assert not (tmp_path / "device").exists()

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from components.core.bundle import Bundle
from components.core.files import read_json, write_json
from deploy.edge.export import export_edge
from deploy.edge.report import installed_bytes, required
from tests.word_bundle import write_word_bundle


def test_required_names_what_requirements_need_in_turn_without_extras_and_what_is_not_there() -> None:
    found = required(["onnxruntime==1.0", "numpy>=2", "no-such-thing==1"])
    assert {"onnxruntime", "numpy", "protobuf"} <= set(found)
    assert not {"no-such-thing", "torch", "onnx"} & set(found)


def test_installed_bytes_are_those_of_the_files_on_disk() -> None:
    import sentencepiece

    library = next(Path(sentencepiece.__file__).parent.glob("_sentencepiece*"))
    assert installed_bytes(["sentencepiece"])["sentencepiece"] > library.stat().st_size


def test_report_measures_a_fresh_process_to_its_last_golden_answer(tmp_path: Path) -> None:
    export_edge(write_word_bundle(tmp_path / "bundle", 0), tmp_path / "device")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "device" / "run.py"), "--report"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["answers"] == report["as_packaged"] == 8
    assert report["cold_start_s"] > report["median_answer_s"] > 0
    assert 20e6 < report["peak_memory_bytes"] < 150e6
    assert report["installed_bytes"]["total"] == sum(
        size for name, size in report["installed_bytes"].items() if name != "total"
    )
    assert "sentencepiece" not in report["installed_bytes"]


def test_report_counts_the_answers_that_are_as_packaged(tmp_path: Path) -> None:
    bundle = write_word_bundle(tmp_path / "bundle", 0)
    manifest, golden = Bundle.load(bundle).manifest, read_json(bundle / "golden.json")
    golden["examples"][3]["output"] = "another processor's"
    write_json(bundle / "golden.json", golden)
    Bundle.save(bundle, manifest)
    export_edge(bundle, tmp_path / "device")
    command = [sys.executable, str(tmp_path / "device" / "run.py"), "--report"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (report["answers"], report["as_packaged"]) == (8, 7)


def test_report_fails_with_the_reason_when_the_bundle_was_changed(tmp_path: Path) -> None:
    export_edge(write_word_bundle(tmp_path / "bundle", 0), tmp_path / "device")
    with (tmp_path / "device" / "bundle" / "translate.onnx").open("ab") as file:
        file.write(b"!")
    command = [sys.executable, str(tmp_path / "device" / "run.py"), "--report"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sha256 differs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""

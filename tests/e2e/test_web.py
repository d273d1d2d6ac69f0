"""The exported site: its modules in Node and its page in headless Chromium answer as the Python predictor does."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.bundle import Bundle
from components.core.errors import ModelpressError
from components.core.files import read_json, sha256_file
from components.data.vocabulary import train_sentencepiece
from components.inference import load_predictor
from components.inference.tokenizers import load_tokenizer
from deploy.web import export
from deploy.web.export import export_web
from tests.tiny_bundle import made_up_pairs, tiny_translator
from tests.word_bundle import write_word_bundle
from tests.workspace import REPOSITORY

WEB = REPOSITORY / "deploy" / "web"
SENTENCES = [source for source, _ in made_up_pairs()["test"]][:100]
ODD = [
    "", " ", "   ", "\t\n\r", "\u3000", "\u2581", "\u2581\u2581 a", "a\u2581", " a  b ", "\0", "a\0b", "\x1c", "\x85",
    "\ufeffhello", "\ufffd", "\u2028", "\u200b\u200d", "e\u0301 \u0065\u0301\u0323", "ｶﾞｷﾞ", "Ａｂｃ　１２３", "①㍿ﷺ",
    "ß ŉ ǆ", "👩‍👩‍👧 🇯🇵 👍🏽", "\U0001d54f\U00020000", "<s> </s> <pad> <unk>", "鬱鬱鬱", "한국어", "שלום עולם",
    "x" * 500, "犬" * 80,
]  # fmt: skip
RANGES = [
    (0x00, 0x20), (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x1100, 0x1200), (0x2000, 0x2070), (0x2400, 0x2600),
    (0x3000, 0x3400), (0x4E00, 0x5000), (0xAC00, 0xAD00), (0xF900, 0x10000), (0x1D400, 0x1D800), (0x1F300, 0x1FA00),
]  # fmt: skip


def odd_texts(count: int, known: list[str]) -> list[str]:
    """Return ODD and as many mixtures of characters of all RANGES and of snippets of known text."""
    pick = random.Random(0)

    def snippet() -> str:
        if pick.random() < 0.4:
            text = pick.choice(known)
            start = pick.randrange(len(text))
            return text[start : start + pick.randint(1, 12)]
        return "".join(chr(pick.randrange(*pick.choice(RANGES))) for _ in range(pick.randint(1, 4)))

    return [*ODD, *("".join(snippet() for _ in range(pick.randint(1, 10))) for _ in range(count))]


@pytest.fixture(scope="module")
def packages() -> None:
    """The packages of deploy/web/package-lock.json, from npm."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("the web page is not tested: no node and npm on PATH")
    wanted = read_json(WEB / "package.json")
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        installed = WEB / "node_modules" / name / "package.json"
        if not installed.is_file() or read_json(installed)["version"] != version:
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=WEB, check=True)
            return


@pytest.fixture(scope="module")
def bundle(packages: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_translator(tmp_path_factory.mktemp("web"))


def node(bundle: Path, texts: list[str] = [], sentences: list[str] = []) -> subprocess.CompletedProcess[str]:  # noqa: B006
    given = json.dumps({"texts": texts, "sentences": sentences})
    command = ["node", str(WEB / "tests" / "answers.mjs"), str(bundle)]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def node_answers(bundle: Path, **given: list[str]) -> Any:
    done = node(bundle, **given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def chromium() -> str:
    """Return where Chromium is; $CHROMIUM goes before PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip("the page is tested in Node only: no Chromium on PATH, and $CHROMIUM not set")
    return found


def visit(site: Path, sentences: list[str]) -> subprocess.CompletedProcess[str]:
    command = ["node", str(WEB / "tests" / "page.mjs"), str(site), chromium(), sys.executable]
    return subprocess.run(command, input=json.dumps(sentences), capture_output=True, text=True, check=False)


def test_node_answers_100_sentences_as_the_predictor_does(bundle: Path) -> None:
    predictor = load_predictor(bundle)
    got = node_answers(bundle, sentences=SENTENCES)
    assert got["singly"] == [predictor.predict([sentence])[0] for sentence in SENTENCES]
    assert got["together"] == predictor.predict(SENTENCES)
    assert len(set(got["singly"])) > 80


@pytest.mark.parametrize("kind", ["unigram", "bpe", "words"])
def test_tokenizer_gives_the_librarys_ids_and_text_of_odd_texts(bundle: Path, tmp_path: Path, kind: str) -> None:
    pages = "\n".join(path.read_text("utf-8") for path in sorted((REPOSITORY / "docs").glob("*.md"))).splitlines()
    known = [line for line in [*pages, *(side for pair in made_up_pairs()["train"] for side in pair)] if line]
    if kind == "words":
        root = write_word_bundle(tmp_path / "bundle", 0)
    else:
        root = shutil.copytree(bundle, tmp_path / "bundle")
        for side, size in (("source", 1200), ("target", 600)):
            train_sentencepiece(known, root / "assets" / f"{side}.model", size, kind, 0.9995)  # type: ignore[arg-type]
        Bundle.save(root, Bundle.load(bundle).manifest)
    texts = odd_texts(1500, known)
    got = node_answers(root, texts=texts)
    source, target = (load_tokenizer(next((root / "assets").glob(f"{side}.*"))) for side in ("source", "target"))
    for text, ids, decoded in zip(texts, got["ids"], got["decoded"], strict=True):
        assert ids == {"source": source.encode(text), "target": target.encode(text)}, ascii(text)
        assert decoded == target.decode(target.encode(text)), ascii(text)


@pytest.mark.parametrize("name", ["translate.onnx", "assets/source.model", "MODEL_CARD.md"])
def test_node_refuses_when_a_file_was_changed(bundle: Path, tmp_path: Path, name: str) -> None:
    changed = shutil.copytree(bundle, tmp_path / "changed")
    (changed / name).write_bytes((changed / name).read_bytes()[:-1] + b"!")
    done = node(changed, sentences=SENTENCES[:1])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}: sha256 differs from the manifest")


def test_page_answers_100_sentences_as_the_predictor_does_and_goes_on_without_a_network(
    bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "export-web", bundle, tmp_path / "site"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    done = visit(tmp_path / "site", SENTENCES)
    assert done.returncode == 0, done.stderr
    seen, predictor = json.loads(done.stdout), load_predictor(bundle)
    expected = [predictor.predict([sentence])[0] for sentence in SENTENCES]
    assert seen["singly"] == seen["pasted"] == expected
    assert seen["offline"] == expected[:2]
    (example, *_) = read_json(bundle / "golden.json")["examples"]
    assert seen["example"] == {"input": example["input"], "answer": predictor.predict([example["input"]])[0]}
    assert seen["title"] == "tiny-int8"
    assert seen["facts"]["Precision"] == "int8"
    assert seen["facts"]["Size"] == f"{Bundle.load(bundle).size_bytes() / 1e6:.1f} MB"
    assert seen["facts"]["Median answer"].endswith(" ms")
    assert seen["elsewhere"] == seen["problems"] == []


@pytest.mark.parametrize("name", ["bundle/translate.onnx", "ort/ort-wasm-simd-threaded.wasm"])
def test_page_says_so_when_a_file_was_changed(bundle: Path, tmp_path: Path, name: str) -> None:
    export_web(bundle, tmp_path / "site")
    with (tmp_path / "site" / name).open("ab") as file:
        file.write(b"!")
    done = visit(tmp_path / "site", [])
    assert done.returncode != 0
    assert f"{name}: sha256 differs" in done.stderr


def test_site_lists_every_file_with_its_digest_and_replaces_an_earlier_export(bundle: Path, tmp_path: Path) -> None:
    for _ in range(2):
        listing = export_web(bundle, tmp_path / "site")
    present = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.*")}
    assert present == {*listing["files"], "site.json"}
    for name, file in listing["files"].items():
        assert file["sha256"] == sha256_file(tmp_path / "site" / name)
    assert read_json(tmp_path / "site" / "site.json") == listing


def test_export_refuses_in_one_line_when_the_page_cannot_run_the_predictor(packages: None, tmp_path: Path) -> None:
    root = write_word_bundle(tmp_path / "bundle", 0)
    Bundle.save(root, replace(Bundle.load(root).manifest, predictor="binary_addition"))
    with pytest.raises(ModelpressError, match="can't run predictor 'binary_addition'; it knows translation"):
        export_web(root, tmp_path / "site")


def test_export_says_what_to_run_when_npm_packages_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PACKAGES", tmp_path / "nowhere")
    root = write_word_bundle(tmp_path / "bundle", 0)
    with pytest.raises(ModelpressError, match=r"1\.30\.0 is needed, none is installed; run: npm ci --omit=dev"):
        export_web(root, tmp_path / "site")
    assert not (tmp_path / "site").exists()

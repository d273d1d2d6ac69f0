"""Throughput and latency of one int8 bundle behind three servers: ours, `mlflow models serve`, and LitServe.

    python -m benchmarks.serving [BUNDLE]      (a folder, variant or recipe)

Writes benchmarks/results/serving-VARIANT.json. The bundle's golden inputs are asked, one a request: texts, or pictures
and sounds as data URLs; each server has to answer each of them exactly as the predictor does. All three servers call
the same predictor in as many processes as there are cores, ours and LitServe's with the same batching limits. They run
at the same time and take turns within each round, idle while another is asked; ratios are medians over rounds. The load
comes from wrk (Debian's package), whose client costs some microseconds a request: it shares the servers' cores, and a
client in Python took as long as they did.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from components.core.files import read_json, write_json
from components.core.threads import threads
from components.inference import load_predictor
from pipelines.bundle_names import find_bundle

CONNECTIONS = (1, 16, 64)
PATIENCE_S = 300
OURS = "modelpress"
SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class System:
    """How a server is started and asked. question: one input's request; answer: what the predictor said in a reply."""

    path: str
    command: Callable[[Path, int, int], list[str]]
    question: Callable[[str], Any]
    answer: Callable[[Any], Any]


def _peer(kind: str) -> Callable[[Path, int, int], list[str]]:
    return lambda bundle, port, cores: ["-m", f"benchmarks.{kind}_peer", str(bundle), str(port), str(cores)]


def systems(variant: str) -> dict[str, System]:
    """Return the servers by name."""
    return {
        OURS: System(
            f"/predict/{variant}",
            lambda bundle, port, cores: [
                "-m", "pipelines.cli", "serve", str(bundle), "--port", str(port), "--processes", str(cores),
                "--threads", "1",
            ],
            lambda text: {"inputs": [text]},
            lambda answer: answer["answers"][0],
        ),
        "mlflow": System(
            "/invocations", _peer("mlflow"), lambda text: {"inputs": [text]}, lambda answer: answer["predictions"][0]
        ),
        "litserve": System(
            "/predict", _peer("litserve"), lambda text: {"input": text}, lambda answer: answer["output"]
        ),
    }  # fmt: skip


def main() -> None:
    """Start the servers, let them take turns, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", default="tatoeba-student-int8")
    parser.add_argument("--seconds", type=int, default=4, help="per round, server and number of connections")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="benchmarks/results/serving-VARIANT.json")
    options = parser.parse_args()
    bundle = find_bundle(Path.cwd(), options.bundle).resolve()
    variant = read_json(bundle / "manifest.json")["variant"]
    examples = read_json(bundle / "golden.json")["examples"]
    texts = [example["input"] for example in examples]
    if not all(isinstance(text, str) for text in texts):
        raise SystemExit(f"{variant}: its inputs are no texts or data URLs; name a translator or a classifier")
    if not shutil.which("wrk"):
        raise SystemExit("the load comes from wrk: apt-get install wrk")
    expected = answers_here(bundle, texts)
    known = systems(variant)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {name: stack.enter_context(running(name, system, bundle, texts[0])) for name, system in known.items()}
        for name, system in known.items():
            check_answers(name, system, urls[name], texts, expected)
        bodies = {name: _write_bodies(folder / name, system, texts) for name, system in known.items()}
        rounds = take_turns(urls, bodies, options.seconds, options.rounds)
    result = summarize(variant, rounds, options.seconds)
    write_json(options.out or Path(f"benchmarks/results/serving-{variant}.json"), result)
    print(result["ratios"])


@contextmanager
def running(name: str, system: System, bundle: Path, text: str) -> Iterator[str]:
    """Start a server and yield its URL once it has answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *system.command(bundle, port, threads())],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}{system.path}"
    try:
        _wait(name, process, url, system.question(text))
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(name: str, process: subprocess.Popen[bytes], url: str, question: Any) -> None:
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            if requests.post(url, json=question, timeout=30).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{name} does not answer at {url}")


def answers_here(bundle: Path, texts: list[str]) -> list[Any]:
    """Return what the predictor answers to each text alone (int8 rounds by the batch), as JSON has it."""
    predictor = load_predictor(bundle)
    return [json.loads(json.dumps(predictor.predict([text])[0])) for text in texts]


def check_answers(name: str, system: System, url: str, texts: list[str], expected: list[Any]) -> None:
    """Ask every text once; a server that answers otherwise than the predictor does is not measured."""
    for text, answer in zip(texts, expected, strict=True):
        reply = requests.post(url, json=system.question(text), timeout=PATIENCE_S)
        reply.raise_for_status()
        if (got := system.answer(reply.json())) != answer:
            raise SystemExit(f"{name} answered {got!r} where the predictor answers {answer!r}")


def _write_bodies(file: Path, system: System, texts: list[str]) -> Path:
    file.write_text("".join(f"{json.dumps(system.question(text))}\n" for text in texts), encoding="utf-8")
    return file


def take_turns(
    urls: dict[str, str], bodies: dict[str, Path], seconds: int, rounds: int
) -> list[dict[str, dict[str, Any]]]:
    """Return the figures of every server and number of connections, a row a round; each round begins with another."""
    results = []
    for number in range(rounds):
        names = [*urls][number % len(urls) :] + [*urls][: number % len(urls)]
        row: dict[str, dict[str, Any]] = {name: {} for name in names}
        for connections in CONNECTIONS:
            for name in names:
                row[name][f"connections_{connections}"] = load(urls[name], bodies[name], connections, seconds)
        print(f"round {number + 1}/{rounds}: {row}", flush=True)
        results.append(row)
    return results


def load(url: str, bodies: Path, connections: int, seconds: int) -> dict[str, float]:
    """Ask for some seconds over that many connections, each asking again once answered; return what wrk measured."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE_S}s", "-s", str(SCRIPT), url]
    done = subprocess.run([*command, "--", str(bodies)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    figures = json.loads(done.stdout.splitlines()[-1])
    answered = figures["requests"] - figures["failed"]
    return {
        "requests_per_second": round(answered / figures["seconds"], 1),
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "requests": figures["requests"],
        "failed": figures["failed"],
    }


def summarize(variant: str, rounds: list[dict[str, dict[str, Any]]], seconds: int) -> dict[str, Any]:
    """Return medians over rounds, and of the ratios within a round: throughput ours / theirs, p99 theirs / ours."""
    from components.evaluation.hardware import describe

    names, keys = [OURS, *(name for name in rounds[0] if name != OURS)], [f"connections_{n}" for n in CONNECTIONS]

    def median(name: str, key: str, figure: str) -> float:
        return round(statistics.median(row[name][key][figure] for row in rounds), 2)

    def ratio(name: str, key: str, figure: str, upside: bool) -> float:
        pairs = [(row[OURS][key][figure], row[name][key][figure]) for row in rounds]
        return round(statistics.median(a / b if upside else b / a for a, b in pairs), 3)

    return {
        "variant": variant,
        "systems": {
            name: {
                key: {
                    **{f: median(name, key, f) for f in ("requests_per_second", "p50_ms", "p99_ms")},
                    **{f: sum(row[name][key][f] for row in rounds) for f in ("requests", "failed")},
                }
                for key in keys
            }
            for name in names
        },
        "ratios": {
            f"{OURS} / {name}": {
                key: {
                    "throughput": ratio(name, key, "requests_per_second", True),
                    "p99_shorter_by": ratio(name, key, "p99_ms", False),
                }
                for key in keys
            }
            for name in names[1:]
        },
        "rounds": len(rounds),
        "seconds_a_round": seconds,
        "cores": threads(),
        "hardware": describe(),
    }


if __name__ == "__main__":
    main()

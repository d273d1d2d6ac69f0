"""A small real workspace: this repository's code and dvc.yaml over a few hundred sentence pairs, with its own git."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
PAIRS = {"train": 400, "dev": 40, "test": 40}


def small_corpus(folder: Path) -> dict[str, str]:
    """Write a toy parallel corpus laid out as small-parallel-enja is; return {file: sha256}.

    Real pairs where the mirror is at hand, made ones elsewhere: a grammar of numbers and colours.
    """
    folder.mkdir(parents=True)
    digests = {}
    for split, count in PAIRS.items():
        for side, lines in _pairs(split, count).items():
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{split}.{side}").write_text(text, encoding="utf-8")
            digests[f"{split}.{side}"] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def _pairs(split: str, count: int) -> dict[str, list[str]]:
    real = SHARED / "small_parallel_enja"
    if real.is_dir():
        return {side: (real / f"{split}.{side}").read_text("utf-8").splitlines()[:count] for side in ("en", "ja")}
    start = {"train": 0, "dev": 400, "test": 440}[split]
    things = [
        ("dog", "犬"),
        ("cat", "猫"),
        ("bird", "鳥"),
        ("book", "本"),
        ("tree", "木"),
        ("car", "車"),
        ("house", "家"),
    ]
    colours = [
        ("red", "赤い"),
        ("blue", "青い"),
        ("white", "白い"),
        ("black", "黒い"),
        ("old", "古い"),
        ("new", "新しい"),
    ]
    pairs: dict[str, list[str]] = {"en": [], "ja": []}
    for i in range(start, start + count):
        (en_thing, ja_thing), (en_colour, ja_colour) = things[i % 7], colours[i // 7 % 6]
        pairs["en"].append(f"he has {i // 42 + 2} {en_colour} {en_thing}s .")
        pairs["ja"].append(f"彼 は {ja_colour} {ja_thing} を {i // 42 + 2} 持 っ て い る 。")
    return pairs


def tiny_params(digests: dict[str, str]) -> dict[str, Any]:
    """Return params.yaml of one small recipe with a student, a pruned student and int8 variants."""
    variant = {"recipe": "tiny", "from": "tiny", "precision": "fp32", "options": {"beam": 2}}
    loose = {"agreement": 0.0, "quality_drop": 1.0}  # 40 dev sentences of a model this small prove nothing about int8
    small = {"width": 16, "ffn": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2}
    return {
        "default": ["tiny"],
        "datasets": {
            "tiny-pairs": {
                "source": {
                    "kind": "files",
                    "url": "http://127.0.0.1:9/nowhere",
                    "files": {name: {"sha256": digest} for name, digest in digests.items()},
                },
                "split": {"reader": "parallel_text"},
            }
        },
        "recipes": {
            "tiny": {
                "task": "translation",
                "dataset": "tiny-pairs",
                "data": {"tokenizer": "word", "min_frequency": 1},
                "model": {**small, "architecture": "transformer", "width": 32, "heads": 4},
                "train": {"epochs": 3, "tokens_per_batch": 256, "learning_rate": 3e-3, "ema": 0.9, "seed": 1},
                "budget": {"max_size_mb": 10, "max_p50_ms": 1000, "min_quality": 0.0},
            }
        },
        "students": {
            "tiny-student": {
                "recipe": "tiny",
                "from": "tiny",
                "passes": [
                    {
                        "distill": {
                            "sequence": {"beam": 2},
                            "logit": {"alpha": 0.5},
                            "model": small,
                            "train": {"epochs": 1},
                        }
                    }
                ],
            },
            "tiny-pruned": {
                "recipe": "tiny",
                "from": "tiny",
                "passes": [{"prune": {"remove": {"heads": 0.25, "ffn": 0.5}, "batches": 3, "train": {"epochs": 1}}}],
            },
        },
        "variants": {
            "tiny-fp32": variant,
            "tiny-fp16": {**variant, "precision": "fp16", "tolerance": loose},
            "tiny-int8": {**variant, "precision": "int8", "tolerance": loose},
            "tiny-student-int8": {**variant, "from": "tiny-student", "precision": "int8", "tolerance": loose},
            "tiny-pruned-int8": {**variant, "from": "tiny-pruned", "precision": "int8", "tolerance": loose},
        },
    }


def make_workspace(root: Path, variants: Collection[str] = ()) -> Path:
    """Create the workspace with its mirror beside it; run commands in it with `workspace_environment`.

    variants: keep only these, and the students they are made of; all where none is named.
    """
    digests = small_corpus(root.parent / f"{root.name}-mirror" / "tiny-pairs")
    root.mkdir(parents=True)
    for name in ("components", "pipelines"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(REPOSITORY / name, root / name)
    params = tiny_params(digests)
    if variants:
        params["variants"] = {name: params["variants"][name] for name in variants}
        parents = {variant["from"] for variant in params["variants"].values()}
        params["students"] = {name: params["students"][name] for name in parents & params["students"].keys()}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", *author, "commit", "-qm", "workspace"], cwd=root, check=True)
    return root


def workspace_environment(root: Path) -> dict[str, str]:
    """Return the environment for commands in a workspace: its mirror, this Python first on PATH, one thread.

    Servers that other tests of this process were pointed at are no business of the workspace's.
    """
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MODELPRESS_DATA_MIRROR": str(root.parent / f"{root.name}-mirror"),
        "MODELPRESS_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }

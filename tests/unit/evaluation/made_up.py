"""Variants and timings as the stages before `select` write them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def variant(name: str, quality: float, size_mb: float, teacher: float = 38.0, **changes: Any) -> Row:
    return {
        "variant": name,
        "recipe": "toy",
        "parent": "toy",
        "precision": "fp32",
        "runtime": "cpu",
        "options": {"beam": 4},
        "metric": "bleu_beam4",
        "quality": {"dev": {"bleu_beam4": quality}, "test": {"bleu_beam4": quality - 0.5}},
        "teacher_quality": {"dev": {"bleu_beam4": teacher, "bleu_greedy": 35.0}, "test": {"bleu_beam4": teacher}},
        "quality_vs_teacher": quality / teacher,
        "size_bytes": round(size_mb * 1e6),
        "parameters": 1_000_000,
        "signature": "nrefs:1|tok:none",
        "parity": {"max_abs_diff": 2e-6, "agreement": 1.0, "grid": [[1, 4]]},
        **changes,
    }


def latency(p50s: dict[str, float]) -> Row:
    return {
        "hardware": {"cpu": "Toy CPU", "cores": 2},
        "threads": 1,
        "variants": {
            name: {
                "latency_ms": {
                    "batch_1": {"p50": p50, "p95": 2 * p50, "low": 0.95 * p50, "high": 1.05 * p50},
                    "batch_32": {"p50": 10 * p50, "p95": 12 * p50, "low": 9 * p50, "high": 11 * p50},
                },
                "throughput": {"batch_1": 1000 / p50, "batch_32": 5000 / p50},
                "unit": "tokens/s",
            }
            for name, p50 in p50s.items()
        },
    }

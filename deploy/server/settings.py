"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_PORT = 8000
Role = Literal["live", "pinned", "canary", "shadow"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and addresses; times in seconds unless the name says otherwise.

    threads: batches computed at a time, each on one core (small graphs gain less from sharing one).
    processes: that share the address, each with every model and `threads` of its own; limits hold in each.
    queue: inputs of one model that may wait. max_batch: inputs computed together, and rows a tensor may have.
    idle_s: how long a connection may say nothing. body_s: how long a request's body may take to arrive.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    max_batch: int = 32
    max_delay_ms: float = 5.0
    queue: int = 512
    timeout_s: float = 30.0
    max_request_bytes: int = 8 * 2**20
    token: str | None = None
    threads: int = 1
    processes: int = 1
    idle_s: float = 30.0
    body_s: float = 20.0
    connections: int = 2048


@dataclass(frozen=True)
class LocalBundle:
    """A bundle's folder: one version, for as long as the server lives."""

    folder: Path


@dataclass(frozen=True)
class RegisteredBundle:
    """A version in the registry, by its number or by an alias that may move (just one of the two)."""

    name: str
    alias: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Reference:
    """What is served under a model's name.

    role: "live" answers whoever names no version, "pinned" those that name it, "canary" takes `percent` of the live
    one's requests, "shadow" answers them too but nobody hears it.
    """

    model: str
    bundle: LocalBundle | RegisteredBundle
    role: Role = "live"
    percent: float = 0.0

"""One server for the tests that only ask, and a bundle that answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_server import ModelServer
from tests.word_bundle import write_word_bundle


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's folder; its model's name is words-fp32."""
    return write_word_bundle(tmp_path_factory.mktemp("bundles") / "words", version=1)


@pytest.fixture(scope="session")
def server(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with ModelServer(tmp_path_factory.mktemp("server"), str(words), "--max-request-mb", "1") as running:
        yield running

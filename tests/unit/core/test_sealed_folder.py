"""Names that stay inside, and folders that hold what they should."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.core.files import sha256_file
from components.core.sealed_folder import is_inside, verify

PART = st.text(alphabet="ab./\\:\n \0é", max_size=6)


@given(st.lists(PART, max_size=4).map("/".join))
def test_name_that_is_inside_stays_there_and_is_spelled_one_way(name: str) -> None:
    if is_inside(name):
        assert os.path.normpath(f"/root/{name}") == f"/root/{name}"
        assert str(PurePosixPath(name)) == name


@pytest.mark.parametrize("name", ["a", "a/b.c", "a b", "..a", "a..", ".hidden", "é"])
def test_plain_name_is_inside(name: str) -> None:
    assert is_inside(name)


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "a/", "a//b", ".", "./a", "..", "a/../b", "a\\b", "c:a", "a\nb", "a\0"]
)
def test_name_that_leads_elsewhere_or_has_another_spelling_is_not(name: str) -> None:
    assert not is_inside(name)


def test_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelpressError, match="link or a device"):
        verify(tmp_path, {"pipe": "0" * 64})


def test_exempt_file_may_be_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    digests = {"a": sha256_file(tmp_path / "a")}
    verify(tmp_path, digests, exempt=["b"])
    (tmp_path / "b").write_text("b")
    verify(tmp_path, digests, exempt=["b"])
    with pytest.raises(ModelpressError, match="'b' is not in the manifest"):
        verify(tmp_path, digests)

"""Files are written whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import ModelpressError
from components.core.files import dump_json, new_folder, read_json, sha256_tree, write_bytes, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_json_text_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert dump_json(value) == dump_json(dict(reversed(value.items())))


def test_new_folder_leaves_the_old_one_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with new_folder(target) as folder:
        (folder / "a").write_text("first")

    def write_half() -> None:
        with new_folder(target) as folder:
            (folder / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert (target / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_new_folder_clears_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".out.new-dead").mkdir()
    with new_folder(tmp_path / "out"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_write_bytes_leaves_nothing_when_it_cannot_finish(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_bytes(target, "text")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_tree_digest_follows_names_and_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    before = sha256_tree(tmp_path)
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    renamed = sha256_tree(tmp_path)
    write_json(tmp_path / "b.json", 2)
    assert len({before, renamed, sha256_tree(tmp_path)}) == 3


@pytest.mark.parametrize("text", ["", "{", "\udcff"])
def test_unreadable_json_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelpressError, match=r"x\.json: not a JSON file"):
        read_json(tmp_path / "x.json")

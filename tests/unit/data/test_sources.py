from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.core.errors import ModelpressError
from components.core.source import DebianSource, FilesSource, PypiSource, SeveralSources
from components.data import sources
from components.data.sources import MIRROR_VARIABLE, fetch

CONTENT = "一 二\n".encode() * 100


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """A real HTTP server on a free port: `answers` maps a path to (status, declared length or None, body), in turns."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, int | None, bytes]]] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                turns = server.answers.get(self.path, [(404, None, b"")])
                status, length, body = turns.pop(0) if len(turns) > 1 else turns[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def files_source(url: str, **contents: bytes) -> FilesSource:
    files = {name.replace("_", "."): {"sha256": digest(data)} for name, data in contents.items()}
    return FilesSource.model_validate({"kind": "files", "url": url, "files": files, "mirror": "corpus"})


def assert_fails_in_one_line(source: FilesSource | PypiSource | DebianSource, out: Path, *words: str) -> None:
    """Fetching raises one line with the words and leaves the folder around `out` as it was."""
    before = sorted(path.relative_to(out.parent) for path in out.parent.rglob("*"))
    with pytest.raises(ModelpressError) as raised:
        fetch("toy", source, out)
    text = str(raised.value)
    assert "\n" not in text
    assert [word for word in ("toy", *words) if word not in text] == [], text
    assert sorted(path.relative_to(out.parent) for path in out.parent.rglob("*")) == before


# ---- HTTP ----


def test_fetch_writes_exact_bytes_when_url_answers(server: Server, tmp_path: Path) -> None:
    server.answers = {"/a.txt": [(200, None, CONTENT)], "/b.txt": [(200, None, b"")]}
    fetch("toy", files_source(server.url, a_txt=CONTENT, b_txt=b""), tmp_path / "toy")
    assert {p.name: p.read_bytes() for p in (tmp_path / "toy").iterdir()} == {"a.txt": CONTENT, "b.txt": b""}


def test_fetch_tries_again_when_server_is_busy_or_breaks_off(server: Server, tmp_path: Path) -> None:
    server.answers = {
        "/a.txt": [(503, None, b"busy"), (200, len(CONTENT), CONTENT[:50]), (429, None, b""), (200, None, CONTENT)]
    }
    fetch("toy", files_source(server.url, a_txt=CONTENT), tmp_path / "toy")
    assert (tmp_path / "toy" / "a.txt").read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_fetch_fails_when_body_is_short_every_time(server: Server, tmp_path: Path) -> None:
    server.answers = {"/a.txt": [(200, len(CONTENT), CONTENT[:50])]}
    source = files_source(server.url, a_txt=CONTENT)
    assert_fails_in_one_line(
        source, tmp_path / "toy", "short file", "50 bytes read, 750 more", f"{server.url}/a.txt", MIRROR_VARIABLE
    )
    assert len(server.asked) == 4


def test_fetch_fails_at_once_when_file_is_not_there(server: Server, tmp_path: Path) -> None:
    assert_fails_in_one_line(
        files_source(server.url, a_txt=CONTENT), tmp_path / "toy", "404", "corpus/a.txt", MIRROR_VARIABLE
    )
    assert len(server.asked) == 1


def test_fetch_fails_with_both_digests_when_bytes_are_wrong(server: Server, tmp_path: Path) -> None:
    server.answers = {"/a.txt": [(200, None, b"other")]}
    source = files_source(server.url, a_txt=CONTENT)
    assert_fails_in_one_line(source, tmp_path / "toy", digest(CONTENT), digest(b"other"), "source.files.a.txt.sha256")


def test_fetch_fails_naming_mirror_variable_when_nothing_listens(server: Server, tmp_path: Path) -> None:
    server.close()
    assert_fails_in_one_line(files_source(server.url, a_txt=CONTENT), tmp_path / "toy", "refused", MIRROR_VARIABLE)


def test_fetch_keeps_last_good_folder_when_second_file_is_wrong(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "a.txt").write_text("last good")
    server.answers = {"/a.txt": [(200, None, CONTENT)], "/b.txt": [(200, None, b"other")]}
    assert_fails_in_one_line(files_source(server.url, a_txt=CONTENT, b_txt=CONTENT), tmp_path / "toy", "b.txt")
    assert (tmp_path / "toy" / "a.txt").read_text() == "last good"


def test_fetch_fails_in_one_line_when_disk_is_full(server: Server, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    server.answers = {"/a.txt": [(200, None, CONTENT)]}
    wanted = sources._Wanted("toy", "a.txt", digest(CONTENT), Path("/dev/full"))
    with (
        pytest.raises(ModelpressError, match=r"fetch toy: .*No space left on device; make room"),
        sources._one_line_disk_errors("toy", tmp_path),
    ):
        sources._download(wanted, f"{server.url}/a.txt", "")


# ---- mirrors ----


def test_fetch_asks_mirror_folder_first_when_it_is_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "corpus").mkdir(parents=True)
    (tmp_path / "mirror" / "corpus" / "a.txt").write_bytes(CONTENT)
    monkeypatch.setenv(MIRROR_VARIABLE, f"{tmp_path}/mirror/")
    server.answers = {"/b.txt": [(200, None, b"b")]}
    fetch("toy", files_source(server.url, a_txt=CONTENT, b_txt=b"b"), tmp_path / "toy")
    assert server.asked == ["/b.txt"]
    assert (tmp_path / "toy" / "a.txt").read_bytes() == CONTENT


def test_fetch_asks_mirror_url_first_when_it_is_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"{server.url}/mirror")
    server.answers = {"/mirror/corpus/a.txt": [(200, None, CONTENT)], "/public/b.txt": [(200, None, b"b")]}
    fetch("toy", files_source(f"{server.url}/public", a_txt=CONTENT, b_txt=b"b"), tmp_path / "toy")
    assert server.asked == ["/mirror/corpus/a.txt", "/mirror/corpus/b.txt", "/public/b.txt"]


def test_fetch_fails_when_mirror_has_a_wrong_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "corpus").mkdir(parents=True)
    (tmp_path / "mirror" / "corpus" / "a.txt").write_bytes(CONTENT[:-1])
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "mirror"))
    server.answers = {"/a.txt": [(200, None, CONTENT)]}
    source = files_source(server.url, a_txt=CONTENT)
    assert_fails_in_one_line(
        source, tmp_path / "toy", "mirror/corpus/a.txt", f"{len(CONTENT) - 1:,} bytes", MIRROR_VARIABLE
    )
    assert server.asked == []


# ---- source distributions ----


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes its packages from, and from nowhere else."""
    (tmp_path / "index").mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def add_package(index: Path, **files: str) -> PypiSource:
    """Put a source distribution with a member and more files in the index; return the source that names it."""
    archive = index / "toy-data-1.0.tar.gz"
    members = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n",
        "deep/DATA": CONTENT.decode(),
        "setup.py": "raise SystemExit('never run')",
        **files,
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(f"toy-data-1.0/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return PypiSource.model_validate(
        {
            "kind": "pypi_sdist",
            "requirement": "toy-data==1.0",
            "sha256": digest(archive.read_bytes()),
            "files": {"DATA": {"member": "toy-data-1.0/deep/DATA", "sha256": digest(CONTENT)}},
        }
    )


def changed(source: PypiSource, **values: object) -> PypiSource:
    return PypiSource.model_validate({**source.model_dump(), **values})


def test_fetch_reads_member_and_runs_nothing_of_package(index: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    source = add_package(index, **{"setup.py": f"open({str(ran)!r}, 'w'); import setuptools; setuptools.setup()"})
    fetch("toy", source, tmp_path / "toy")
    assert {p.name: p.read_bytes() for p in (tmp_path / "toy").iterdir()} == {"DATA": CONTENT}
    assert not ran.exists()


def test_fetch_runs_no_setup_when_package_declares_setuptools(index: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    declared = '[build-system]\nrequires = ["setuptools>=40"]\nbuild-backend = "setuptools.build_meta"\n'
    source = add_package(index, **{"setup.py": f"open({str(ran)!r}, 'w')", "pyproject.toml": declared})
    fetch("toy", source, tmp_path / "toy")
    assert not ran.exists()


def test_fetch_asks_mirror_before_pip_when_it_has_the_member(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "toy").mkdir(parents=True)
    (tmp_path / "mirror" / "toy" / "DATA").write_bytes(CONTENT)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "mirror"))
    source = add_package(index)
    (index / "toy-data-1.0.tar.gz").unlink()
    fetch("toy", source, tmp_path / "toy")
    assert (tmp_path / "toy" / "DATA").read_bytes() == CONTENT


def test_fetch_fails_with_both_digests_when_archive_is_wrong(index: Path, tmp_path: Path) -> None:
    source = add_package(index)
    assert_fails_in_one_line(
        changed(source, sha256="0" * 64), tmp_path / "toy", "0" * 64, source.sha256, "source.sha256"
    )


def test_fetch_fails_when_archive_lacks_member(index: Path, tmp_path: Path) -> None:
    files = {"DATA": {"member": "toy-data-1.0/DATA", "sha256": digest(CONTENT)}}
    assert_fails_in_one_line(
        changed(add_package(index), files=files),
        tmp_path / "toy",
        "no file toy-data-1.0/DATA",
        "source.files.DATA.member",
    )


def test_fetch_fails_with_both_digests_when_member_is_wrong(index: Path, tmp_path: Path) -> None:
    files = {"DATA": {"member": "toy-data-1.0/deep/DATA", "sha256": "1" * 64}}
    assert_fails_in_one_line(changed(add_package(index), files=files), tmp_path / "toy", "1" * 64, digest(CONTENT))


def test_fetch_fails_naming_package_when_index_lacks_it(index: Path, tmp_path: Path) -> None:
    source = changed(add_package(index), requirement="toy-data==2.0")
    assert_fails_in_one_line(
        source, tmp_path / "toy", "No matching distribution found for toy-data==2.0", MIRROR_VARIABLE
    )


# ---- lists of sums ----


def listed_source(server: Server, listing: str) -> FilesSource:
    server.answers["/SUMS"] = [(200, None, listing.encode())]
    sums = {"file": "SUMS", "sha256": digest(listing.encode())}
    return FilesSource.model_validate({"kind": "files", "url": server.url, "sums": sums})


def test_fetch_brings_every_file_a_list_of_sums_names(server: Server, tmp_path: Path) -> None:
    server.answers = {"/cats/1.jpg": [(200, None, CONTENT)], "/dogs/1.jpg": [(200, None, b"dog")]}
    source = listed_source(server, f"{digest(CONTENT)}  cats/1.jpg\n{digest(b'dog')} *dogs/1.jpg\n")
    fetch("toy", source, tmp_path / "toy")
    found = {p.relative_to(tmp_path / "toy").as_posix(): p for p in (tmp_path / "toy").rglob("*") if p.is_file()}
    assert sorted(found) == ["SUMS", "cats/1.jpg", "dogs/1.jpg"]
    assert (found["cats/1.jpg"].read_bytes(), found["dogs/1.jpg"].read_bytes()) == (CONTENT, b"dog")


def test_fetch_fails_when_a_listed_file_is_wrong(server: Server, tmp_path: Path) -> None:
    server.answers = {"/cats/1.jpg": [(200, None, b"other")]}
    source = listed_source(server, f"{digest(CONTENT)}  cats/1.jpg\n")
    assert_fails_in_one_line(source, tmp_path / "toy", "wrong sha256 for cats/1.jpg", "update SUMS and its sum")


def test_fetch_fails_when_the_list_itself_is_wrong(server: Server, tmp_path: Path) -> None:
    source = listed_source(server, f"{digest(CONTENT)}  cats/1.jpg\n")
    server.answers["/SUMS"] = [(200, None, b"other")]
    assert_fails_in_one_line(source, tmp_path / "toy", "wrong sha256 for SUMS", "datasets.toy.source.sums.sha256")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "cats/../../outside"])
def test_fetch_refuses_a_list_that_leads_out_of_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    server.answers = {f"/{name}": [(200, None, CONTENT)]}
    source = listed_source(server, f"{digest(CONTENT)}  {name}\n")
    assert_fails_in_one_line(source, tmp_path / "toy", "SUMS:1", "outside")
    assert len(server.asked) == 1


# ---- Debian packages ----


def ar_member(name: str, data: bytes) -> bytes:
    """Return a member of an `ar` archive: a header of 60 bytes, the data, a byte that makes the size even."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
    return header.encode() + data + b"\n" * (len(data) % 2)


def debian_package(server: Server, compression: str = "xz") -> DebianSource:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as tar:
        info = tarfile.TarInfo("./usr/share/toy/DATA")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (f"data.tar.{compression}", data.getvalue())]
    package = b"!<arch>\n" + b"".join(ar_member(*member) for member in members)
    server.answers["/toy_1.0_all.deb"] = [(200, None, package)]
    files = {"DATA": {"member": "./usr/share/toy/DATA", "sha256": digest(CONTENT)}}
    url = f"{server.url}/toy_1.0_all.deb"
    return DebianSource.model_validate(
        {"kind": "debian_package", "url": url, "sha256": digest(package), "files": files}
    )


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_fetch_reads_member_of_debian_package(server: Server, tmp_path: Path, compression: str) -> None:
    fetch("toy", debian_package(server, compression), tmp_path / "toy")
    assert {p.name: p.read_bytes() for p in (tmp_path / "toy").iterdir()} == {"DATA": CONTENT}


def test_fetch_fails_when_debian_package_is_another(server: Server, tmp_path: Path) -> None:
    source = debian_package(server)
    server.answers["/toy_1.0_all.deb"] = [(200, None, b"!<arch>\nother")]
    assert_fails_in_one_line(source, tmp_path / "toy", "wrong sha256 for toy_1.0_all.deb", "toy.source.sha256")


def test_fetch_fails_when_pinned_bytes_are_no_debian_package(server: Server, tmp_path: Path) -> None:
    server.answers["/toy_1.0_all.deb"] = [(200, None, CONTENT)]
    source = DebianSource.model_validate({**debian_package(server).model_dump(), "sha256": digest(CONTENT)})
    server.answers["/toy_1.0_all.deb"] = [(200, None, CONTENT)]
    assert_fails_in_one_line(source, tmp_path / "toy", "not a Debian package")


def test_fetch_fails_when_debian_package_lacks_the_member(server: Server, tmp_path: Path) -> None:
    source = debian_package(server)
    files = {"DATA": {"member": "./usr/OTHER", "sha256": digest(CONTENT)}}
    changed_source = DebianSource.model_validate({**source.model_dump(), "files": files})
    assert_fails_in_one_line(changed_source, tmp_path / "toy", "no file ./usr/OTHER", "files.DATA.member")


def test_several_places_each_fill_a_folder_of_their_own(server: Server, tmp_path: Path) -> None:
    for place in ("a", "b"):
        server.answers[f"/{place}/x.txt"] = [(200, None, place.encode())]
    parts = {
        name: {"url": f"{server.url}/{name}", "files": {"x.txt": {"sha256": digest(name.encode())}}}
        for name in ("a", "b")
    }
    fetch("d", SeveralSources(kind="several", parts=parts), tmp_path / "d")
    assert {path.relative_to(tmp_path / "d").as_posix(): path.read_text() for path in (tmp_path / "d").glob("*/*")} == {
        "a/x.txt": "a",
        "b/x.txt": "b",
    }


def test_a_wrong_sum_in_one_of_several_places_names_its_key(server: Server, tmp_path: Path) -> None:
    server.answers["/a/x.txt"] = [(200, None, b"other")]
    parts = {"first": {"url": f"{server.url}/a", "files": {"x.txt": {"sha256": digest(CONTENT)}}}}
    with pytest.raises(ModelpressError, match=r"datasets\.d\.source\.parts\.first\.files\.x\.txt\.sha256"):
        fetch("d", SeveralSources(kind="several", parts=parts), tmp_path / "d")
    assert not (tmp_path / "d").exists()

"""The app's own address for uploads, by raw requests. What programs and pages send is in tests/ui."""

import errno
import json
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from gradio import routes
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware

from resnet_space.serve import inventory, storage, temporary, uploads
from resnet_space.serve.context import AppContext
from resnet_space.serve.guard import Guard
from resnet_space.serve.limits import Limits
from resnet_space.serve.uploads import Uploads

LIMIT = 20_000_000  # bytes of all visitors' things; a quarter is for uploads, half of that for one address
LIMITS = Limits(gigabytes=LIMIT / 1e9, upload_mb=1)
MEGABYTE = 1_000_000


class Served:
    """The address for uploads behind the guard."""

    def __init__(self, folder: Path) -> None:
        self.context = AppContext(folder / "runs", public=True, limits=LIMITS)
        self.uploads = Uploads(self.context)
        app = Starlette(
            routes=self.uploads.routes, middleware=[Middleware(Guard, limits=Limits(upload_mb=1), proxied=False)]
        )
        vars(app)["auth"] = None  # as gradio's have it without a password
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        _wait_for(lambda: self._server.started)
        self.address = self._server.servers[0].sockets[0].getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def send(self, *files: bytes, query: str = "") -> httpx.Response:
        form = [("files", (f"{i}.bin", content)) for i, content in enumerate(files)]
        return httpx.post(f"{self.url}{uploads.UPLOAD}{query}", files=form, timeout=60)

    def begin(self, length: int, *, field: bool = False) -> socket.socket:
        """A raw upload that says so many bytes and has sent its first lines."""
        kind = b'name="x"' if field else b'name="files"; filename="a.bin"'
        sending = socket.create_connection(self.address, timeout=30)
        sending.sendall(
            f"POST {uploads.UPLOAD} HTTP/1.1\r\nHost: {self.address[0]}\r\nContent-Length: {length}\r\n"
            "Content-Type: multipart/form-data; boundary=B\r\n\r\n".encode()
            + b"--B\r\nContent-Disposition: form-data; %b\r\n\r\nbeginning" % kind
        )
        return sending

    def unfinished(self) -> list[Path]:
        return list((temporary.folder() / temporary.UNFINISHED).iterdir())

    def leave_nothing(self) -> None:
        """Wait until all that was broken off has gone."""
        _wait_for(lambda: not self.unfinished() and not self.uploads.unfinished)
        assert self.context.storage._reserved == {}


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(sending: socket.socket) -> tuple[int, str]:
    """The status and sentence of a raw upload's answer."""
    answer = b""
    while b"}" not in answer:
        answer += sending.recv(4096)
    return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("app")
        patch.setenv(temporary.FOLDER_VARIABLE, str(folder / "temporary"))
        patch.setattr(tempfile, "tempdir", str(folder / "temporary"))
        (folder / "temporary").mkdir()
        (folder / "temporary" / temporary.LOCK).touch()
        patch.setattr(storage, "SPARE", 0)
        running = Served(folder)
        yield running
        running.close()


@pytest.fixture
def served(app: Served) -> Served:
    """With no uploads yet."""
    for path in temporary.folder().iterdir():
        if path.name not in (temporary.LOCK, temporary.UNFINISHED):
            shutil.rmtree(path)
    app.context.storage.tidy()
    return app


def test_a_form_may_have_several_files_and_names_of_any_kind(served: Served) -> None:
    names = ["a.png", "../../b.png", "..", "é" * 300, ""]
    form = [("files", (name or " ", b"%d" % i)) for i, name in enumerate(names)]
    answer = httpx.post(served.url + uploads.UPLOAD, files=form)
    paths = [Path(path) for path in answer.json()]
    assert [path.read_bytes() for path in paths] == [b"0", b"1", b"2", b"3", b"4"]
    assert all(path.resolve().parent.parent == temporary.folder().resolve() for path in paths)
    assert [path.name for path in paths[:2]] == ["a.png", "b.png"]


def test_the_page_sees_how_far_its_upload_is_and_gradio_forgets_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_of: list[tuple[str, int]] = []
    statuses = routes.file_upload_statuses
    append = statuses.append

    def appended(upload_id: str, name: str, content: bytes) -> None:
        told_of.append((name, len(content)))
        append(upload_id, name, content)

    monkeypatch.setattr(statuses, "append", appended)
    monkeypatch.setattr(uploads, "REMEMBERED", 0.1)
    served.send(bytes(MEGABYTE // 2), query="?upload_id=mine")
    assert sum(size for name, size in told_of) == MEGABYTE // 2
    assert {name for name, _ in told_of} == {"0.bin"}
    assert statuses.is_done("mine")
    served.leave_nothing()
    _wait_for(lambda: not statuses._statuses and not statuses._signals)


def test_an_upload_that_is_broken_off_leaves_nothing(served: Served) -> None:
    sending = served.begin(900_000)
    sending.sendall(bytes(300_000))
    _wait_for(lambda: any(file.stat().st_size for folder in served.unfinished() for file in folder.iterdir()))
    sending.close()
    served.leave_nothing()


def test_one_that_falls_silent_is_broken_off_with_a_sentence(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SILENCE", 0.1)
    with closing(served.begin(900_000)) as sending:
        status, sentence = told(sending)
    assert (status, sentence) == (408, "The upload timed out: send it again.")
    served.leave_nothing()


def test_fields_that_are_no_files_are_refused_before_they_fill_the_memory(served: Served) -> None:
    with closing(served.begin(1_900_000, field=True)) as sending:
        sending.sendall(bytes(uploads.FIELD_BYTES))  # of which more would come
        assert told(sending) == (413, "The form's fields have more than 65,536 bytes.")
    served.leave_nothing()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=B", b"rubbish"),
        ("multipart/form-data; boundary=B", b""),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n"),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--B--\r\n',
        ),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n',
        ),
        ("multipart/form-data; boundary=B", b"--B\r\nX: " + bytes(20_000) + b"\r\n\r\n--B--\r\n"),
        ("multipart/form-data", b"--B--"),
        ("multipart/form-data; boundary=" + "B" * 300, b"x"),
        ("text/plain", b"x"),
        (None, b""),
    ],
)
def test_what_is_no_form_of_files_is_refused_in_a_sentence(served: Served, kind: str | None, body: bytes) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = httpx.post(served.url + uploads.UPLOAD, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(".")
    served.leave_nothing()


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_file_that_is_too_large_is_refused_in_a_sentence(served: Served, in_pieces: bool) -> None:
    form = httpx.Request("POST", served.url, files=[("files", ("a", bytes(MEGABYTE + 1)))])
    body = form.read()

    def pieces() -> Iterator[bytes]:
        yield body

    headers = {"Content-Type": form.headers["content-type"]}
    answer = httpx.post(served.url + uploads.UPLOAD, content=pieces() if in_pieces else body, headers=headers)
    assert (answer.status_code, answer.json()) == (413, {"detail": "The file is too large: at most 1 MB are allowed."})
    served.leave_nothing()


def test_only_so_many_are_on_their_way_from_one_address(served: Served) -> None:
    sending = [served.begin(1_000) for _ in range(uploads.UNFINISHED_OF_ONE)]
    _wait_for(lambda: served.uploads.unfinished.total() == len(sending))
    refused = served.send(b"one more")
    assert refused.status_code == 429
    assert "uploads from your address are in progress: wait until" in refused.json()["detail"]
    for one in sending:
        one.close()
    served.leave_nothing()
    assert served.send(b"one more").status_code == 200


def test_and_in_all(served: Served) -> None:
    served.uploads.unfinished.update({f"192.0.2.{i}": 1 for i in range(uploads.UNFINISHED)})
    try:
        refused = served.send(b"one more")
    finally:
        served.uploads.unfinished.clear()
    assert (refused.status_code, refused.json()["detail"][:40]) == (429, "Too many files are being uploaded at the")


def test_there_is_no_room_for_more_than_an_addresss_share_until_its_own_are_out_of_use(served: Served) -> None:
    share = int(LIMIT * storage.TEMPORARY_SHARE * storage.ADDRESS_SHARE)
    answers = [served.send(bytes([i]) + bytes(900_000)) for i in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 507]
    assert "The space for uploads and downloads is full: try again in" in answers[2].json()["detail"]
    with closing(served.begin(900_000)) as sending:  # told before it is sent
        assert told(sending)[0] == 507
    first, second = (Path(answer.json()[0]) for answer in answers[:2])
    temporary.used(first, inventory.IN_USE + 1)
    served.context.storage._measured = -storage.MEASURED_SECONDS
    assert served.send(b"x" * 900_000).status_code == 200
    assert (first.exists(), second.exists()) == (False, True)
    assert served.context.storage.usage()["temporary"] <= share
    served.leave_nothing()


def test_a_body_that_does_not_say_its_length_is_counted_as_it_comes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UNKNOWN", 100_000)
    served.send(bytes(900_000))
    served.send(b"x" + bytes(900_000))

    def pieces() -> Iterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(9):
            yield bytes(100_000)
        yield b"\r\n--B--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = httpx.post(served.url + uploads.UPLOAD, content=pieces(), headers=headers)
    assert answer.status_code == 507
    served.leave_nothing()


def test_uploads_without_pause_stay_within_their_share(served: Served) -> None:
    said: Counter[object] = Counter()
    end = time.monotonic() + 1

    def send(i: int) -> None:
        while time.monotonic() < end:
            if i % 2:
                with closing(served.begin(900_000)) as sending:
                    sending.sendall(bytes(500_000))
                time.sleep(0.1)
            else:
                said[served.send(bytes([i]) + bytes(900_000)).status_code] += 1

    threads = [threading.Thread(target=send, args=(i,)) for i in range(4)]
    highest = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, inventory.tree(temporary.folder())[1])
    assert highest <= LIMIT * storage.TEMPORARY_SHARE + 2 * MEGABYTE
    assert set(said) == {200, 507}
    served.leave_nothing()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "The disk is full: delete"), (errno.EROFS, "The folder is not writable")],
)
def test_a_disk_that_takes_no_more_is_told_and_nothing_is_left(
    served: Served, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    async def fail(self: object, data: bytes) -> None:
        raise OSError(number, "as the system says it")

    monkeypatch.setattr(uploads._Received, "write", fail)
    answer = served.send(b"content")
    assert answer.status_code == 507
    assert answer.json()["detail"].startswith(sentence)
    served.leave_nothing()


def test_a_disk_with_little_left_takes_no_upload(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_free", lambda _folder: 400_000)
    assert served.send(bytes(100_000)).status_code == 200
    answer = served.send(bytes(500_000))
    assert answer.status_code == 507
    assert "This file needs 1 MB of disk space, but only 0 MB are available" in answer.json()["detail"]


def test_a_form_has_no_more_files_open_than_the_one_that_comes(tmp_path: Path) -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n'

    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield part
        yield b"--B--\r\n"

    async def parsed() -> list[bool]:
        headers = Headers({"content-type": "multipart/form-data; boundary=B"})
        form = uploads._UploadForm(headers, body(), upload_dir=tmp_path, max_file_size=10)
        return [file.file.closed for file in (await form.parse()).getlist("files")]

    assert anyio.run(parsed) == [True] * 5

"""Uploads of visitors: limit them, and open only uploaded files, whatever path or URL a request names.

`Uploads` replaces gradio's upload route, which limits only the size of a file, leaves interrupted uploads on disk, and
holds form fields in memory.
"""

import asyncio
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from gradio import processing_utils, route_utils, routes
from gradio.exceptions import InvalidPathError
from gradio.utils import get_upload_folder
from gradio_client.utils import strip_invalid_filename_characters
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resnet_space.common.errors import UserError
from resnet_space.common.faults import system_words
from resnet_space.serve import temporary
from resnet_space.serve.rates import held
from resnet_space.serve.refusals import refusal

if TYPE_CHECKING:
    from resnet_space.serve.context import AppContext

T = TypeVar("T")

NOT_UPLOADED = "This file has not been uploaded: upload it first."
UPLOAD = "/gradio_api/upload"
FIELD_BYTES = 65_536  # of all non-file fields of a form, which are held in memory
MOST_FILES = 1_000  # in one form, as in gradio
UNFINISHED = 24  # uploads in progress
UNFINISHED_OF_ONE = 6  # per address; a browser opens as many connections
SILENCE = 30.0  # seconds without data after which an upload is aborted
LONGEST_ID = 64  # characters of the id with which a page requests the progress of its upload
LONGEST = 3600.0  # maximum seconds of an upload
REMEMBERED = 60.0  # seconds after its end for which the progress of an upload is available
UNKNOWN = 16_000_000  # bytes reserved at a time for a body of unknown length


class UploadError(UserError):
    """A refused upload: an HTTP status and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def uploaded_file(payload: dict[str, Any]) -> Path:
    """The file in a component's raw payload (`preprocess=False`).

    Gradio checks only payloads that call themselves its files; one of the same form without that mark reaches the
    handler with any path in it.

    Raises:
        UserError: for a path outside the upload folder.
    """
    path = Path(str(payload.get("path"))).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise UserError(NOT_UPLOADED)
    temporary.used(path)
    return path


class Form(route_utils.GradioMultiPartParser):
    """Gradio's form parser, with bounded fields. If it fails, the caller removes its files."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._field_bytes = 0
        self._progress, self.upload_progress = self.upload_progress, None  # gradio's fails at a field

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        file = self._current_part.file
        if file is None:
            self._field_bytes += end - start
            if self._field_bytes > FIELD_BYTES:
                raise MultiPartException(f"The form's fields have more than {FIELD_BYTES:,} bytes.")
        elif self._progress is not None:
            self._progress.append(str(self.upload_id), str(file.filename), data[start:end])
        super().on_part_data(data, start, end)

    async def parse(self) -> Any:
        try:
            return await super().parse()
        except BaseException:
            for file in self._files_to_close_on_error:
                with suppress(OSError):  # of a full disk, to which it has still to be written
                    file.close()
                Path(file.name).unlink(missing_ok=True)
            raise
        finally:
            if self._progress is not None:
                self._progress.set_done(str(self.upload_id))


class _Received(route_utils.GradioUploadFile):
    """A received file, closed as soon as it is complete: a form may have more files than a process may open."""

    async def seek(self, offset: int) -> None:
        await self.close()


class _UploadForm(Form):
    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if (file := self._current_part.file) is not None:
            self._current_part.file = _Received(file.file, size=0, filename=file.filename, headers=file.headers)


class Uploads:
    """The upload route. Interrupted or refused uploads leave nothing behind.

    Args:
        context: whose limits and storage it is.
    """

    def __init__(self, context: "AppContext") -> None:
        self.context = context
        self.unfinished: Counter[str] = Counter()  # by address
        self._threads = anyio.CapacityLimiter(2)
        self.routes = [Route(UPLOAD, self._take, methods=["POST"])]

    async def _take(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        status, sentence = HTTPStatus.TOO_MANY_REQUESTS, ""
        if self.unfinished[address] >= UNFINISHED_OF_ONE:
            sentence = f"{UNFINISHED_OF_ONE} uploads from your address are in progress: wait until one is done."
        elif self.unfinished.total() >= UNFINISHED:
            sentence = "Too many files are being uploaded at the moment: try again in a minute."
        if sentence:
            return _refused(status, sentence)
        with held(self.unfinished, address):
            try:
                return JSONResponse(await self._upload(request, address))
            except UploadError as error:
                return _refused(error.status, str(error))
            except UserError as error:
                return _refused(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
            except OSError as error:
                if words := system_words(error):
                    return _refused(HTTPStatus.INSUFFICIENT_STORAGE, words)
                raise
            except ClientDisconnect:  # nobody is there to be told
                return Response(status_code=HTTPStatus.BAD_REQUEST)

    async def _upload(self, request: Request, address: str) -> list[str]:
        """The paths of the files in a form, as gradio returns them."""
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise UploadError(
                HTTPStatus.BAD_REQUEST, "Send files as a form, multipart/form-data, in fields named 'files'."
            )
        folder = temporary.folder() / temporary.UNFINISHED
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder / os.urandom(8).hex()
        length = int(request.headers.get("content-length") or 0)
        megabytes = self.context.limits.upload_mb
        upload_id = request.query_params.get("upload_id", "")[:LONGEST_ID] or None
        try:
            await self._in_thread(self.context.storage.reserve, folder.name, address, length)
            folder.mkdir()
            form = _UploadForm(
                request.headers,
                self._received(request, folder.name, address, length),
                max_files=MOST_FILES,
                max_fields=10,
                upload_dir=folder,
                upload_id=upload_id,
                upload_progress=routes.file_upload_statuses if upload_id else None,
                max_file_size=math.inf if megabytes is None else megabytes * 1_000_000,
            )
            if upload_id:
                routes.file_upload_statuses.track(upload_id)
            form_data = await form.parse()
            files = form_data.getlist("files")
            if not files or not all(isinstance(file, route_utils.GradioUploadFile) for file in files):
                raise UploadError(HTTPStatus.BAD_REQUEST, "The form has no files: send them in fields named 'files'.")
            if not all(file.file.closed for file in files):
                raise UploadError(HTTPStatus.BAD_REQUEST, "The form ends within a file: send it again.")
            return await self._in_thread(self._keep, files, address)
        except MultiPartException as error:
            raise _form_error(error, megabytes) from None
        except UserError:
            raise
        except (MultipartParseError, UnicodeError, ValueError, AssertionError):
            raise UploadError(HTTPStatus.BAD_REQUEST, "The form cannot be read: send the file again.") from None
        finally:
            if upload_id:
                asyncio.get_running_loop().call_later(REMEMBERED, _forget, upload_id)
            with anyio.CancelScope(shield=True):
                await self._in_thread(self._end, folder)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run disk operations in a thread, so that they do not block other requests."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._threads)

    def _end(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.context.storage.release(folder.name)

    async def _received(self, request: Request, name: str, address: str, length: int) -> AsyncGenerator[bytes, None]:
        """The chunks of the body as they arrive, while there is space and data keeps arriving."""
        deadline = time.monotonic() + LONGEST
        reserved, taken = length, 0
        megabytes = self.context.limits.upload_mb
        more = UNKNOWN if megabytes is None else min(UNKNOWN, (megabytes + 1) * 1_000_000)
        stream = request.stream()
        while True:
            try:
                wait = min(SILENCE, deadline - time.monotonic())
                chunk = await asyncio.wait_for(anext(stream), max(wait, 0))
            except StopAsyncIteration:
                return
            except TimeoutError:
                words = "The upload timed out: send it again."
                raise UploadError(HTTPStatus.REQUEST_TIMEOUT, words) from None
            taken += len(chunk)
            if megabytes is not None and taken > (megabytes + 1) * 1_000_000:  # beside the file there is its form
                raise _too_large(megabytes)
            while taken > reserved:
                await self._in_thread(self.context.storage.reserve, name, address, more)
                reserved += more
            yield chunk

    def _keep(self, files: list[route_utils.GradioUploadFile], address: str) -> list[str]:
        """Move files to gradio's location, by the hash of their content."""
        paths = []
        for file in files:
            name = strip_invalid_filename_characters(Path(file.filename or "").name).replace("..", "")
            source, folder = Path(str(file.file.name)), temporary.folder() / file.sha.hexdigest()
            path = folder / (name or f"tmp{os.urandom(5).hex()}")
            self.context.storage.keep(source, path, address)
            paths.append(str(path))
        return paths


def _forget(upload_id: str) -> None:
    """Forget the progress of the upload, which gradio would otherwise keep forever if no page asks for it."""
    statuses = routes.file_upload_statuses
    statuses.stop_tracking(upload_id)
    statuses._signals.pop(upload_id, None)


def _too_large(megabytes: int | None) -> UploadError:
    sentence = f"The file is too large: at most {megabytes} MB are allowed."
    return UploadError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)


def _form_error(error: MultiPartException, megabytes: int | None) -> UploadError:
    if "File size exceeded" in error.message:
        return _too_large(megabytes)
    if "fields have more" in error.message:
        return UploadError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.message)
    return UploadError(HTTPStatus.BAD_REQUEST, f"The form cannot be read: {error.message.rstrip('.')}.")


def _refused(status: HTTPStatus, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, {"Connection": "close"})


def close_other_ways() -> None:
    """Refuse in a sentence what gradio looks at before any handler does: addresses, which it would fetch for whoever
    asks, and paths, which it refuses with a traceback.
    """
    functions = vars(processing_utils)
    check = functions["_check_allowed"]

    async def fetch(url: str, cache_dir: str) -> str:
        raise refusal("Files are not downloaded from a URL: upload the file instead.")

    def checked(path: str | Path, check_in_upload_folder: bool) -> None:
        try:
            check(path, check_in_upload_folder)
        except InvalidPathError:
            if not check_in_upload_folder:  # what a handler gives out
                raise
            raise refusal(NOT_UPLOADED) from None
        if check_in_upload_folder:
            temporary.used(Path(path))

    functions["async_ssrf_protected_download"] = fetch
    functions["_check_allowed"] = checked
    vars(routes)["GradioMultiPartParser"] = Form  # of other addresses that take forms

"""Processes that start at once: they are forked from one that has imported what they need.

To import PyTorch takes a process some seconds, as long as a short training. So each app has one process that imports
it, does nothing else, and forks when a module is to be run; what it imported takes no memory a second time. It ends
with the app, and what it forked goes on. On Linux only, and not beside NVIDIA GPUs, with which this was not tried;
there, and as long as it is not ready, processes are started as usual.
"""

import ctypes
import gc
import importlib
import json
import math
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import RawIOBase
from typing import IO, Protocol

from resnet_space.common.hardware import keep_threads_apart, nvidia_gpus, training_environment

MOST_BYTES = 65_536  # of a request
READY = b"ready"
LOOK_SECONDS = 0.01
ROOM = 2_000  # bytes for the command that `ps` shows of a forked process


class Child(Protocol):
    """What of `subprocess.Popen` is used of a process that outlives its app."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...


class Forked:
    """A process that was forked for this one, which is told its exit status by a pipe. Safe in several threads."""

    def __init__(self, pid: int, status: RawIOBase) -> None:
        self.pid = pid
        self._status = status
        self._returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status, or minus the number of the signal that killed it; as of a kill if nobody knows any more."""
        with self._lock:
            if self._returncode is None and _is_told(self._status):
                self._returncode = int(self._status.readline() or -signal.SIGKILL)
                self._status.close()
            return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        until = math.inf if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() >= until:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            time.sleep(LOOK_SECONDS)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class ForkServer:
    """The process that forks, once it has imported these modules.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._imported = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, "-m", __name__, str(theirs.fileno()), ",".join(modules), "-" * ROOM]
            self._process = subprocess.Popen(
                words,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=training_environment(),
                start_new_session=True,  # the shell's Ctrl-C ends the app, not what it started
            )

    def is_ready(self, seconds: float = 0) -> bool:
        """Whether it has imported everything, or does within this time."""
        if not self._imported and _is_told(self._channel, seconds):  # nobody else is to wait as long
            with self._lock:
                self._imported = self._imported or self._channel.recv(MOST_BYTES) == READY
        return self._imported

    def fork(self, words: Sequence[str], log: IO[bytes], environment: Mapping[str, str]) -> Forked:
        """Run `python -m` these words. Raises OSError if the server is gone or has no room."""
        asked = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(environment)}).encode()
        if len(asked) > MOST_BYTES or len(_command_line(words)) > ROOM:
            raise OSError("the command is too long to be forked")
        read, write = os.pipe()
        status = os.fdopen(read, "rb", buffering=0)  # or it could hold what `select` waits for
        try:
            try:
                with self._lock:
                    socket.send_fds(self._channel, [asked], [log.fileno(), write])
            finally:
                os.close(write)
            return Forked(int(status.readline()), status)
        except (OSError, ValueError) as error:
            status.close()
            raise OSError("the fork server is gone") from error

    def close(self) -> None:
        """End it; what it forked goes on."""
        self._channel.close()
        self._process.wait()


def _is_told(pipe: RawIOBase | socket.socket, seconds: float = 0) -> bool:
    """Whether there is something to read, or its end, within this time. (`select` takes no file number above 1,023.)"""
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    return bool(waiting.poll(1_000 * seconds))


_server: ForkServer | None = None


def start_fork_server(modules: Sequence[str]) -> None:
    """Have processes start at once from soon on, with these modules imported."""
    global _server
    if _server is None and sys.platform == "linux" and not nvidia_gpus():
        with suppress(OSError):  # no memory, say: then they start as usual
            _server = ForkServer(modules)


def wait_for_fork_server(seconds: float) -> None:
    """Until processes start at once, for this long at most; not where none are forked."""
    if _server is not None:
        _server.is_ready(seconds)


def start_detached(command: Sequence[str], log: IO[bytes]) -> Child:
    """Start a command in a session of its own, with its output in a file; it outlives this process. Raises OSError."""
    environment = training_environment()
    if _server is not None and command[:2] == [sys.executable, "-m"]:
        with suppress(OSError):
            if _server.is_ready():
                return _server.fork(command[2:], log, environment)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # the shell's Ctrl-C ends the app, not this
    )


def _serve(channel: socket.socket, modules: Sequence[str]) -> list[str]:
    """Fork whenever it is asked to. Returns in each forked process: the words that it is to run."""
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or collections in the forked processes would copy what they share
    with suppress(BrokenPipeError):  # the app has ended already
        channel.send(READY)
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, int] = {}  # the pipes for their exit statuses
    while True:
        ready, _, _ = select.select([channel, ended], (), ())
        if ended in ready:
            os.read(ended, MOST_BYTES)
            for pid in list(running):
                if (found := os.waitpid(pid, os.WNOHANG))[0]:
                    _tell(running[pid], os.waitstatus_to_exitcode(found[1]))
                    os.close(running.pop(pid))
        if channel in ready:
            asked, files = b"", list[int]()
            with suppress(ConnectionResetError):  # it had not read that this is ready
                asked, files, _, _ = socket.recv_fds(channel, MOST_BYTES, 2)
            if not asked:
                sys.exit()  # the app has ended
            log, status = files
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number in (ended, wake, status, *running.values()):
                    os.close(number)
                return _become(**json.loads(asked), log=log)
            os.close(log)
            running[pid] = status
            _tell(status, pid)


def _tell(pipe: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the app has ended
        os.write(pipe, b"%d\n" % number)


def _become(words: list[str], folder: str, environment: dict[str, str], log: int) -> list[str]:
    """Be a process of its own, which looks as if it had been started by this command."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    start, end = _arguments()
    ctypes.memmove(start, _command_line(words).ljust(end - start, b"\0"), end - start)
    return words


def _command_line(words: Sequence[str]) -> bytes:
    return b"".join(os.fsencode(word) + b"\0" for word in (sys.executable, "-m", *words))


def _arguments() -> tuple[int, int]:
    """Where in this process's memory its command is, which `ps` shows (proc(5), arg_start and arg_end of "stat")."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[45]), int(fields[46])


def main() -> None:
    keep_threads_apart()  # read when torch is imported
    if _arguments()[0] == 0:
        sys.exit("This system does not tell where a process's command is, so that it cannot be changed.")
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        words = _serve(channel, sys.argv[2].split(","))
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""The parent's end of the worker process: starting it, talking to it, replacing it, ending it.

One worker a process, started at its first use. What is said over the pipe: request, images, class numbers →
("maps", shape), maps | ("refused", why) | ("network wanted", None), whereupon the network's description
follows and the answer comes as before.
"""

import atexit
import contextlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from advlens.arrays import Array
from advlens.explanations.describe import Description, Request

if TYPE_CHECKING:  # started by name below; said here so that artifacts made with it are keyed by its code
    import advlens.explanations.worker  # noqa: F401

_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


class Refused(Exception):
    """iNNvestigate did not take the request; the worker is well."""


class WorkerProcess:
    """A worker process that is started when needed and replaced when it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._connection: Any = None
        self._errors: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return self._process.pid if self._process else None

    def analyze(self, request: Request, description: Description, images: Array, neurons: Array | None) -> Array:
        """(n, ...) float32 maps of one batch; a worker that dies is replaced once and the batch repeated.

        Args:
            images: (n, h, w, channels) float32.
            neurons: (n,) int64 class numbers for the neuron mode "index", else None.
        Raises:
            Refused: if iNNvestigate raised an error.
            RuntimeError: if the worker died twice.
        """
        with self._lock:
            for _ in range(2):
                if self._process is None:
                    self._start()
                try:
                    return self._exchange(request, description, images, neurons)
                except Refused:
                    raise
                except (EOFError, OSError):
                    last_words = self._last_words()
                    self._end()
                except BaseException:  # an interrupt: half a message may lie in the pipe
                    self._end()
                    raise
        raise RuntimeError(
            f"the explanations' worker process died twice ({last_words}): where memory ran out, pass a "
            "smaller batch_size or free memory, otherwise see its last lines"
        )

    def close(self) -> None:
        """Ends the worker; a later call starts another."""
        with self._lock:
            self._end()

    def _exchange(self, request: Request, description: Description, images: Array, neurons: Array | None) -> Array:
        self._connection.send_bytes(pickle.dumps(request))
        self._connection.send_bytes(np.ascontiguousarray(images).data.cast("B"))
        self._connection.send_bytes(b"" if neurons is None else np.ascontiguousarray(neurons).data.cast("B"))
        answer, value = self._receive()
        if answer == "network wanted":
            self._connection.send(description)
            answer, value = self._receive()
        if answer == "refused":
            raise Refused(value)
        if answer == "no memory":
            raise MemoryError
        maps = np.empty(value, np.float32)
        self._connection.recv_bytes_into(maps.data.cast("B"))
        return maps

    def _receive(self) -> tuple[str, Any]:
        while not self._connection.poll(1.0):
            if self._process.poll() is not None:  # pyright: ignore[reportOptionalMemberAccess]
                raise EOFError
        return self._connection.recv()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "advlens.explanations.worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                start_new_session=True,  # a notebook's interrupt goes to its whole process group
            )
        finally:
            theirs.close()

    def _last_words(self) -> str:
        """Exit code and the last lines that the dying worker wrote."""
        try:
            code = self._process.wait(timeout=10)  # pyright: ignore[reportOptionalMemberAccess]
        except subprocess.TimeoutExpired:
            code = "unknown"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 1000))  # pyright: ignore[reportOptionalMemberAccess]
        written = self._errors.read().decode(errors="replace").strip()  # pyright: ignore[reportOptionalMemberAccess]
        return f"exit code {code}" + (f", last lines: {written}" if written else "")

    def _end(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._errors.close()  # pyright: ignore[reportOptionalMemberAccess]
            self._process = None


_worker = WorkerProcess()


def worker() -> WorkerProcess:
    """The worker of this process."""
    return _worker


def _forget_parents_worker() -> None:
    global _worker
    _worker = WorkerProcess()  # the parent's pipe end goes with the old object


@atexit.register
def _close_at_exit() -> None:
    with contextlib.suppress(OSError):
        _worker._end()  # without the lock: a thread that holds it may never come back


os.register_at_fork(after_in_child=_forget_parents_worker)

"""The worker process: iNNvestigate on tf_keras in graph mode, behind a pipe.

Started by `process.py` as `python -m advlens.explanations.worker <file descriptor> <parent's process id>`.
"""

import collections
import contextlib
import gc
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import innvestigate
import numpy as np
import tensorflow as tf

from advlens.arrays import Array
from advlens.explanations.describe import IMAGE, Description, Request
from advlens.explanations.rebuild import rebuild

MAX_NETWORKS = 4
MAX_ANALYZERS = 8


class Analyzer:
    """One iNNvestigate analyzer in a graph and session of its own, so that all of it can be freed."""

    def __init__(self, description: Description, request: Request) -> None:
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        self.scale, self.offset = description.scale, description.offset
        self.input_shape = description.input_shape
        with self._current():
            tf.keras.backend.set_learning_phase(0)  # else BatchNormalization of vectors waits to be told each time
            self.before = rebuild(description, end=request.start) if request.start != IMAGE else None
            self.network = rebuild(description, start=request.start)
            self.analyzer = innvestigate.create_analyzer(
                request.method, self.network, neuron_selection_mode=request.neuron_mode, **request.options
            )

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        with self.graph.as_default(), self.session.as_default():
            yield

    def maps(self, images: bytes, neurons: bytes) -> Array:
        """(n, ...) float32 maps of n float32 images; `neurons` are n int64 class numbers or nothing."""
        inputs = np.frombuffer(images, np.float32).reshape(-1, *self.input_shape)
        if self.scale.ndim or self.offset.ndim or (self.scale, self.offset) != (1, 0):
            inputs = inputs * self.scale + self.offset
        with self._current():
            if self.before is not None:
                inputs = self.before.predict_on_batch(inputs)  # pyright: ignore[reportArgumentType]
            selection = np.frombuffer(neurons, np.int64) if neurons else None
            return np.ascontiguousarray(self.analyzer.analyze(inputs, selection), np.float32)

    def close(self) -> None:
        self.session.close()


class Analyzers:
    """The networks and analyzers used last."""

    def __init__(self) -> None:
        self.networks: collections.OrderedDict[str, Description] = collections.OrderedDict()
        self.analyzers: collections.OrderedDict[bytes, Analyzer] = collections.OrderedDict()

    def get(self, key: bytes, connection: Connection) -> Analyzer:
        """The analyzer of a pickled request; asks the parent for the network where it is unknown."""
        if key not in self.analyzers:
            request = pickle.loads(key)
            description = self._network(request.digest, connection)
            while len(self.analyzers) >= MAX_ANALYZERS:
                self.analyzers.popitem(last=False)[1].close()
            gc.collect()  # graphs are full of cycles
            self.analyzers[key] = Analyzer(description, request)
        self.analyzers.move_to_end(key)
        return self.analyzers[key]

    def _network(self, digest: str, connection: Connection) -> Description:
        if digest not in self.networks:
            connection.send(("network wanted", None))
            self.networks[digest] = connection.recv()
        self.networks.move_to_end(digest)
        while len(self.networks) > MAX_NETWORKS:
            self.networks.popitem(last=False)
        return self.networks[digest]


def serve(connection: Connection) -> None:
    """Answers one request after another until the parent hangs up."""
    analyzers = Analyzers()
    while True:
        key, images, neurons = (connection.recv_bytes() for _ in range(3))
        try:
            maps = analyzers.get(key, connection).maps(images, neurons)
        except (EOFError, OSError):
            raise
        except (MemoryError, tf.errors.ResourceExhaustedError):
            connection.send(("no memory", None))
        except Exception as error:
            connection.send(("refused", f"{type(error).__name__}: {error}"))
        else:
            connection.send(("maps", maps.shape))
            connection.send_bytes(memoryview(maps).cast("B"))  # pyright: ignore[reportArgumentType]


def leave_with(parent: int) -> None:
    """Ends this process once the parent is gone, however busy the main thread is."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main() -> None:
    """Serves the pipe that the parent passed on."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=leave_with, args=(parent,), daemon=True).start()
    tf.compat.v1.disable_eager_execution()
    with contextlib.suppress(EOFError, ConnectionError):
        # Nothing here needs autograph, whose temporary files would outlive a killed worker.
        tf.autograph.experimental.do_not_convert(serve)(Connection(descriptor))
    os._exit(0)  # nothing here needs TensorFlow's slow farewell


if __name__ == "__main__":
    main()

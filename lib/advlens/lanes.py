"""Lanes: commands in processes side by side, each with its share of the cores. What they do is not known here."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

GIB_A_LANE = 8
CONTAINER = Path("/sys/fs/cgroup/memory.max")  # a container's memory in bytes
MOST = 2  # a third one hardly helps: what notebooks share is made once, and the others wait for it
PAUSE = 0.1  # seconds between two looks at what has ended
LANES = "ADVLENS_LANES"  # how many there are, for what runs in one
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")


def lanes_here() -> int:
    """As many as this process has cores and memory for, 1 or 2."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    with contextlib.suppress(OSError, ValueError):  # "max", and systems without control groups
        gib = min(gib, int(CONTAINER.read_text()) / 2**30)
    return max(1, min(MOST, _cores(), round(gib / GIB_A_LANE)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    tasks: Mapping[str, str],
    command: str,
    *,
    lanes: int,
    keep: Sequence[int],
    started: Callable[[str], None],
    failed: Callable[[str, int, str], None],
) -> tuple[dict[str, tuple[int, str]], int]:
    """Runs `advlens COMMAND` once for each task, in order, as many at a time as there are lanes.

    On Ctrl-C or SIGTERM all that run are told to stop as well, and waited for. Once one has failed no other is started.

    Args:
        tasks: name → what the command reads; its argument is this process's id.
        keep: descriptors that the processes hold open as long as they live.
        started: is given the name of each that starts; failed: name, exit code and stderr of each that fails, at once.
    Returns:
        Name → exit code and what it wrote to stderr, of those that were started; and the exit code of the interruption,
        0 without one.
    """
    share = {name: str(max(1, _cores() // lanes)) for name in THREADS} | {LANES: str(lanes)} | os.environ
    waiting, running, ended = list(tasks), {}, {}
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                started(waiting[0])
                name = waiting.pop(0)
                running[name] = _started(command, tasks[name], share, keep)
            time.sleep(PAUSE)
            for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                ended[name] = _ended(*running.pop(name))
                if ended[name][0]:
                    waiting = []
                    failed(name, *ended[name])
    except BaseException as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        for process, _ in running.values():
            process.send_signal(number)
        ended |= {name: _ended(*each) for name, each in running.items()}
        if isinstance(stop, KeyboardInterrupt | SystemExit):
            return ended, 128 + number
        raise
    return ended, 0


def _started(
    command: str, task: str, environment: Mapping[str, str], keep: Sequence[int]
) -> tuple[subprocess.Popen, IO[str]]:
    """In a session of its own, so that a terminal's Ctrl-C reaches it once, by us."""
    told = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
    about = {"stdin": subprocess.PIPE, "stderr": told, "env": environment, "pass_fds": keep}
    command_line = [sys.executable, "-m", "advlens.cli", command, str(os.getpid())]
    process = subprocess.Popen(command_line, **about, start_new_session=True, text=True)
    with process.stdin:  # pyright: ignore[reportOptionalContextManager]
        process.stdin.write(task)  # pyright: ignore[reportOptionalMemberAccess]
    return process, told


def _ended(process: subprocess.Popen, told: IO[str]) -> tuple[int, str]:
    code = process.wait()
    with told:
        told.seek(0)
        return code, told.read()


def end_with(parent: int) -> None:
    """Has this process stop as on SIGTERM where the one of that id, which started it, is gone."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()

"""Lanes: commands in processes side by side, each with its share of the cores. What they do is not known here."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO

GIB_A_LANE = 8
MOST = 2  # a third one hardly helps: what notebooks share is made once, and the others wait for it
PAUSE = 0.1  # seconds between two looks at what has ended
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")


def lanes_here() -> int:
    """As many as this machine has cores and memory for, 1 or 2."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(MOST, os.cpu_count() or 1, int(gib // GIB_A_LANE)))


def side_by_side(
    tasks: Mapping[str, str], command: str, *, lanes: int, say: Callable[[str], None]
) -> tuple[dict[str, tuple[int, str]], int]:
    """Runs `advlens COMMAND` once for each task, in order, as many at a time as there are lanes.

    On Ctrl-C or SIGTERM all that run are told to stop as well, and waited for. Once one has failed no other is started.

    Args:
        tasks: name → what the command reads; say: is given the name of each that starts.
    Returns:
        Name → exit code and what it wrote to stderr, of those that were started; and the exit code of the interruption,
        0 without one.
    """
    share = {name: str(max(1, (os.cpu_count() or 1) // lanes)) for name in THREADS} | os.environ
    waiting, running, ended = list(tasks), {}, {}
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                say(waiting[0])
                name = waiting.pop(0)
                running[name] = _started(command, tasks[name], share)
            time.sleep(PAUSE)
            for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                ended[name] = _ended(*running.pop(name))
                waiting = [] if ended[name][0] else waiting
    except (KeyboardInterrupt, SystemExit) as stop:
        number = signal.SIGTERM if isinstance(stop, SystemExit) else signal.SIGINT
        for process, _ in running.values():
            process.send_signal(number)
        return ended | {name: _ended(*each) for name, each in running.items()}, 128 + number
    return ended, 0


def _started(command: str, task: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen, IO[str]]:
    """In a session of its own, so that a terminal's Ctrl-C reaches it once, by us."""
    told = tempfile.TemporaryFile("w+")  # noqa: SIM115
    about = {"stdin": subprocess.PIPE, "stderr": told, "env": environment, "start_new_session": True, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "advlens.cli", command], **about)
    with process.stdin:  # pyright: ignore[reportOptionalContextManager]
        process.stdin.write(task)  # pyright: ignore[reportOptionalMemberAccess]
    return process, told


def _ended(process: subprocess.Popen, told: IO[str]) -> tuple[int, str]:
    code = process.wait()
    with told:
        told.seek(0)
        return code, told.read()


def end_with_parent() -> None:
    """Has this process stop as on SIGTERM where the one that started it is gone."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()

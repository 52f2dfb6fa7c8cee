"""Running `galaxy-push` processes: a hub, and `tail`.

Used by the stages. Nothing here checks anything.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import threading
import urllib.request

from checks import wait_until

READY_SECONDS = 20
ANY_PORT = "127.0.0.1:0"
# Past any proxy that the caller's shell has set.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start(command: list, log: pathlib.Path, **options) -> subprocess.Popen:
    """Starts a program without what the caller's shell has set for its own hub."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GALAXY_PUSH_")}
    with open(log, "ab") as log_file:
        streams = {"stdout": subprocess.PIPE, "stderr": log_file, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen([str(word) for word in command], env=environment, **streams)


class Hub:
    """A `galaxy-push hub` on ports of the loopback. Every scene has its own."""

    def __init__(self, binary: pathlib.Path, arguments: list, log: pathlib.Path, address: str = ANY_PORT):
        command = [binary, "hub", "--hub-addr", address, "--admin-addr", ANY_PORT, "--ready-json", *arguments]
        self.process = start(command, log)
        # A hub that never gets ready is ended, so that reading its first line ends too.
        watchdog = threading.Timer(READY_SECONDS, self.process.kill)
        watchdog.start()
        first_line = self.process.stdout.readline()
        watchdog.cancel()
        if not first_line:
            raise RuntimeError(f"the hub did not get ready; see {log}")
        self.urls = json.loads(first_line)
        self.address = self.urls["hub"].removeprefix("http://").rstrip("/")

    def streams(self) -> int:
        """How many gateway streams are open, by the hub's own count."""
        with DIRECTLY.open(self.urls["admin"].rstrip("/") + "/metrics", timeout=READY_SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("push_streams "))

    def wait_for_streams(self, count: int):
        wait_until(lambda: self.streams() == count, f"the hub has {count} streams")

    def kill(self):
        """Ends the hub as a crash would."""
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.process.stdout.close()


class Tail:
    """A `galaxy-push tail --all-frames`: our client, with a printer as its handler."""

    def __init__(self, binary: pathlib.Path, hubs: list, arguments: list, log: pathlib.Path):
        urls = ",".join(f"http://{hub}" for hub in hubs)
        command = [binary, "tail", "--hub", urls, "--all-frames", *arguments]
        self.process = start(command, log, stderr=subprocess.PIPE)
        self.frames, self.complaints = [], []
        self.log = log
        for pipe, take in [(self.process.stdout, self._take_frame), (self.process.stderr, self._take_complaint)]:
            threading.Thread(target=self._read, args=(pipe, take), daemon=True).start()

    def events(self) -> list:
        """The ids of the events that were handed over."""
        return [frame["event"]["id"] for frame in list(self.frames) if "event" in frame]

    def kinds(self) -> list:
        """The kinds of all frames that were handed over."""
        return [next((key for key in frame if key != "cursor"), "") for frame in list(self.frames)]

    def said(self) -> str:
        """What it wrote to standard error."""
        return "".join(self.complaints)

    def _take_frame(self, line: str):
        self.frames.append(json.loads(line))

    def _take_complaint(self, line: str):
        self.complaints.append(line)
        with open(self.log, "a") as log:
            log.write(line)

    def _read(self, pipe, take):
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in pipe:
                take(line.decode())

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in [self.process.stdout, self.process.stderr]:
            with contextlib.suppress(OSError, RuntimeError):
                pipe.close()

"""The parent's side of a worker: start it, ask it, and say by name what became of it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["Gone", "Process", "environment"]

ROOT = Path(__file__).parent.parent
LIMIT = 900  # seconds that one answer may take


class Gone(Exception):
    """A worker that cannot go on. `skipped`: its peer cannot be had here at all."""

    def __init__(self, reason, skipped=False):
        super().__init__(reason)
        self.skipped = skipped


class Process:
    """A worker for one peer, used as a context: it is stopped at the end."""

    def __init__(self, peer):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed at the exit
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer.module, json.dumps(peer.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(peer),
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.kill()
        with suppress(OSError):  # what was written to a worker that is gone
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def ask(self, do, **request):
        """The answer to a request. Raises Gone."""
        timer = threading.Timer(LIMIT, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"do": do} | request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        if not line:
            raise Gone(self._last_words() if in_time else f"gave no answer in {LIMIT} s")
        answer = json.loads(line)
        if "skip" in answer:
            raise Gone(answer["skip"], skipped=True)
        if "error" in answer:
            raise Gone(answer["error"])
        return answer

    def _last_words(self):
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f"ended with code {code}: {lines[-1].strip() if lines else 'nothing was said'}"


def environment(peer=None):
    """The variables that a worker gets: the user's own, those of its peer, and the way to this package."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    for name, value in (peer.environment if peer else {}).items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    return variables

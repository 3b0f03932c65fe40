"""A real server, started from the binary that FLUX_BIN names, that can be killed and restarted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path


class Server:
    """A server on a free port, which it keeps over restarts, and with a data directory of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="flux-client-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()
        # A lease that lasts for a second only is not claimed while a server replays its log.
        self.wait_until_ready()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        command = [os.environ["FLUX_BIN"], "--port", str(self.port), "--data-dir", str(self._data)]
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(command, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            text = (self._folder / "log").read_text()
            address = re.search(r"listening on https?://[^,]*:(\d+)", text)
            if address:
                self.port = int(address.group(1))
                return
            assert self._process.poll() is None, text
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/ready", timeout=10).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the server never was ready")

    def kill(self) -> None:
        """The end that no program can prepare for."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def pause(self, seconds: float) -> None:
        """The server stands still, as on a machine that is suspended."""
        self.stand_still()
        time.sleep(seconds)
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stand_still(self) -> None:
        """From now on the server takes connections but does nothing, until it is killed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def keep_copy(self) -> None:
        shutil.copytree(self._data, self._folder / "copy")

    def restore_copy(self) -> None:
        shutil.rmtree(self._data)
        (self._folder / "copy").rename(self._data)

    def remove(self) -> None:
        if self.is_running:
            self.kill()
        shutil.rmtree(self._folder)

"""``hwsi serve`` as a process of its own, spoken to over its API."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing

from server_slides import TOKEN

START = "import typer; from hwsi.cli.serve import serve; typer.run(serve)"


class Running:
    """``hwsi serve`` as a process of its own."""

    def __init__(self, folder, job=None):
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-c", START, str(folder), "--port", str(port), "--token", TOKEN]
        command += ["--job", str(job)] if job else []
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
        for _ in range(1200):
            try:
                self.call("/api/status")
                return
            except urllib.error.URLError:
                assert self.process.poll() is None, "the server ended"
                time.sleep(0.25)

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, head), timeout=60) as reply:
            return json.load(reply)

    def slide(self, name):
        return next(s for s in self.call("/api/slides")["slides"] if s["name"] == name)

    def wait_for(self, job, ready):
        for _ in range(2400):
            now = self.call(f"/api/jobs/{job['id']}")
            if ready(now):
                return now
            time.sleep(0.05)
        raise AssertionError(now)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

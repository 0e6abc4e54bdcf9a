"""Many people ask one server: is each answer the one that is given alone, how long do they wait, does memory grow?

- The real ``hwsi serve`` as a process of its own, over four encoded slides. First every question is asked alone; then
  ``--clients`` ask in turns of their own for ``--minutes``, each with evidence, and look at tiles meanwhile. Every
  answer is compared with the one given alone, all of it but its id.
- Before that, on a server that was just started: seconds to the first tile and to the first word of a slide that
  nobody has asked about yet.
- Memory is the server's resident set, sampled every second; after half a minute to warm up, its mean over the last
  fifth of the time is compared with that over the first fifth.
- Clients run on the same machine: what they take, the server does not have.

Run: ``python benchmarks/serve_load.py [--clients 24] [--minutes 3] [--seed 0]``; exit status 1 if an answer was lost,
differs, or memory grew by more than ``--grows``.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKEN = "a-token-for-the-load"
SLIDES = 4
WARM_S = 30.0
OPEN = (
    "What is the diagnosis?",
    "Describe the growth pattern.",
    "What is the histologic grade of the tumour?",
    "Which organ is this?",
    "What is seen in R1?",
)
CLOSED = (
    ("Is this tissue benign or malignant?", ("benign", "malignant")),
    ("Is there necrosis on this slide?", ("yes", "no")),
)
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (*((q, ()) for q in OPEN), *CLOSED)
Key = tuple[str, str]


@dataclass
class Client:
    """One person: a user of its own."""

    address: str
    cookie: str = ""

    def open(self, path: str, body: Any = None) -> Any:
        """A response; raises urllib.error.HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json", "Origin": self.address}
        head |= {"Cookie": self.cookie} if self.cookie else {"Authorization": f"Bearer {TOKEN}"}
        return urllib.request.urlopen(urllib.request.Request(self.address + path, data, head), timeout=600)

    def json(self, path: str, body: Any = None) -> Any:
        """What a call says."""
        with self.open(path, body) as reply:
            return json.load(reply)

    def login(self) -> "Client":
        """A user of its own by a cookie."""
        with self.open("/api/login", {"token": TOKEN}) as reply:
            self.cookie = reply.headers["Set-Cookie"].partition(";")[0]
        return self

    def ask(self, slide: str, question: str, choices: tuple[str, ...]) -> tuple[float, dict[str, Any]]:
        """Seconds to the first word, and the answer without its id."""
        began, first, answer, name = time.monotonic(), None, None, ""
        with self.open(f"/api/slides/{slide}/ask", {"question": question, "choices": list(choices)}) as reply:
            for raw in reply:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == "token":
                    first = first or time.monotonic() - began
                elif line.startswith("data: ") and name in ("answer", "error"):
                    answer = json.loads(line.removeprefix("data: "))
        if answer is None or "text" not in answer:
            raise RuntimeError(f"no answer: {answer}")
        answer.pop("id")
        return first or time.monotonic() - began, answer

    def tile(self, slide: dict[str, Any], rng: random.Random) -> float:
        """Seconds to some tile of the upper levels."""
        level = rng.randint(max(0, slide["max_level"] - 3), slide["max_level"])
        side = slide["tile_size"] << (slide["max_level"] - level)
        col, row = (rng.randrange(max(1, n // side)) for n in (slide["width"], slide["height"]))
        began = time.monotonic()
        with self.open(f"/api/slides/{slide['id']}/tiles/{level}/{col}_{row}.jpg") as reply:
            assert reply.read(2) == b"\xff\xd8"
        return time.monotonic() - began


@dataclass
class Figures:
    """What was seen under load."""

    words: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tiles: list[float] = field(default_factory=list)
    later: int = 0
    wrong: list[str] = field(default_factory=list)


class Server:
    """``hwsi serve`` over a folder."""

    def __init__(self, folder: Path, threads: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        start = "import typer; from hwsi.cli.serve import serve; typer.run(serve)"
        command = [sys.executable, "-c", start, str(folder), "--port", str(port), "--token", TOKEN]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        me = Client(self.address)
        while True:
            try:
                state = me.json("/api/status")["model_state"]
                if state == "ready":
                    return
                if state == "failed":
                    raise RuntimeError("the server has no model")
            except urllib.error.URLError:
                if self.process.poll() is not None:
                    raise RuntimeError("the server ended") from None
            time.sleep(0.2)

    def memory_mb(self) -> float:
        """Of its resident set."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


def encode_all(address: str) -> list[str]:
    """Ids of all slides, encoded."""
    client = Client(address)
    slides = client.json("/api/slides")["slides"]
    for slide in slides:
        if not slide["encoded"]:
            job = client.json(f"/api/slides/{slide['id']}/encode", {})
            while (state := client.json(f"/api/jobs/{job['id']}")["state"]) != "done":
                if state not in ("queued", "running"):
                    raise RuntimeError(f"{slide['name']} was not encoded: {state}")
                time.sleep(0.5)
    return [slide["id"] for slide in slides]


def first_times(address: str, slide: str) -> tuple[float, float]:
    """Seconds to the first tile, and to the first word, of a slide that was not touched yet."""
    client = Client(address)
    began = time.monotonic()
    with client.open(f"/api/slides/{slide}/tiles/8/0_0.jpg") as reply:
        reply.read()
    tile = time.monotonic() - began
    return tile, client.ask(slide, *QUESTIONS[0])[0]


def load(
    address: str, slides: list[dict[str, Any]], alone: dict[Key, Any], clients: int, seconds: float, seed: int
) -> Figures:
    """All clients at once, until the time is up; each ends the question that it has begun."""
    figures, ends = Figures(), time.monotonic() + seconds

    def one(number: int) -> None:
        rng, client = random.Random(f"{seed}/{number}"), Client(address).login()
        while time.monotonic() < ends:
            slide, (question, choices) = rng.choice(slides), rng.choice(QUESTIONS)
            figures.tiles.extend(client.tile(slide, rng) for _ in range(4))
            began = time.monotonic()
            try:
                first, answer = client.ask(slide["id"], question, choices)
            except urllib.error.HTTPError as refused:
                if refused.code != 429:
                    figures.wrong.append(f"{slide['name']}: {question}: {refused}")
                else:
                    figures.later += 1
                    time.sleep(int(refused.headers["Retry-After"]))
                continue
            except Exception as error:
                figures.wrong.append(f"{slide['name']}: {question}: {error!r}")
                continue
            figures.words.append(first)
            figures.whole.append(time.monotonic() - began)
            if answer != alone[slide["id"], question]:
                differs = [k for k in answer if answer[k] != alone[slide["id"], question][k]]
                figures.wrong.append(f"{slide['name']}: {question}: {', '.join(differs)} differ")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return figures


def p95(seconds: list[float]) -> float:
    """95th percentile."""
    return statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else max(seconds, default=0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grows", type=float, default=0.1, help="at most so much of the memory")
    parser.add_argument("--threads", type=int, default=2, help="of the model")
    parser.add_argument("--keep", type=Path, help="folder of the slides, made if need be and left there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        make_slides(folder)
        server = Server(folder, args.threads)
        ids = encode_all(server.address)
        server.close()
        server = Server(folder, args.threads)
        try:
            return measure(server, ids, args)
        finally:
            server.close()


def measure(server: Server, ids: list[str], args: argparse.Namespace) -> int:
    """All figures, printed; the exit status."""
    client = Client(server.address)
    tile, word = first_times(server.address, ids[0])
    print(f"first tile       {tile:.3f} s (at most 1)")
    print(f"first word       {word:.3f} s of a slide that nobody has asked about (at most 3)")
    alone = {(s, q): client.ask(s, q, c)[1] for s in ids for q, c in QUESTIONS}
    slides = [client.json(f"/api/slides/{s}") for s in ids]
    memory, begun, done = [], time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(1):
            memory.append((time.monotonic() - begun, server.memory_mb()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    warm = min(WARM_S, 20 * args.minutes)
    figures = load(server.address, slides, alone, args.clients, 60 * args.minutes, args.seed)
    took = time.monotonic() - begun
    done.set()
    watcher.join()
    after = [mb for at, mb in memory if at >= warm]
    fifth = max(1, len(after) // 5)
    before, last = statistics.mean(after[:fifth]), statistics.mean(after[-fifth:])
    cores = len(os.sched_getaffinity(0))
    print(f"under load       {args.clients} clients, {len(ids)} slides, {took:.0f} s, {cores} cores")
    print(f"answers          {len(figures.words)}, asked to wait {figures.later}, lost or other {len(figures.wrong)}")
    print(f"first word       p50 {statistics.median(figures.words):.2f} s, p95 {p95(figures.words):.2f} s")
    print(f"whole answer     p50 {statistics.median(figures.whole):.2f} s, p95 {p95(figures.whole):.2f} s")
    print(f"tile             p50 {statistics.median(figures.tiles):.3f} s, p95 {p95(figures.tiles):.3f} s")
    print(f"memory           {before:.0f} MB after {warm:.0f} s, {last:.0f} MB at the end, {last / before - 1:+.1%}")
    for wrong in figures.wrong[:10]:
        print(f"  {wrong}")
    return int(bool(figures.wrong) or last > before * (1 + args.grows) or tile > 1 or word > 3)


def make_slides(folder: Path) -> None:
    """Phantoms of the split ``test``, where they are not there yet."""
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.sampling import draw_plans

    folder.mkdir(parents=True, exist_ok=True)
    for n, plan in enumerate(draw_plans(SLIDES, 0, "test")[:SLIDES]):
        if not (folder / f"slide-{n}.svs").exists():
            write_phantom(folder / f"slide-{n}.svs", plan.spec)


if __name__ == "__main__":
    sys.exit(main())

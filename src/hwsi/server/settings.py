"""What a server is told at its start, and the bounds that it keeps.

- Everything that a request could make large has a bound here.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from hwsi.errors import HwsiError, Reason
from hwsi.inference.vllm_client import VllmClient

MIN_TOKEN = 16
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Settings:
    """How a server is set up.

    Attributes:
        slides: the only folder whose slides are shown.
        job: where feature files, feedback and scores go.
        token: what lets a client in.
        preset, device: who encodes and answers, and where.
        host, port: where it listens.
        tls: whether it is spoken to by HTTPS; the cookie is then kept from plain HTTP.
        show_labels: whether images of labels may be seen; they may hold a patient's name.
        vllm: the server that says the words of open questions, if there is one.
        queue: so many questions wait at most; more are told to come again.
        question_s, report_s: a question, a report may take so long once it has begun.
        sessions: so many slides are kept read by the language model.
        tile_threads, tile_queue: threads that read pixels, and how many reads wait at most.
        cache_bytes: of tiles that are kept encoded.
        upload_bytes: the largest file that may be handed in.
        body_bytes: the largest body of any other request.
    """

    slides: Path
    job: Path
    token: str = field(repr=False)
    preset: str = "nano"
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    tls: bool = False
    show_labels: bool = False
    vllm: VllmClient | None = None
    queue: int = 64
    question_s: float = 120.0
    report_s: float = 900.0
    sessions: int = 8
    tile_threads: int = 4
    tile_queue: int = 512
    cache_bytes: int = 128 << 20
    upload_bytes: int = 8 << 30
    body_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if len(self.token) < MIN_TOKEN or not self.token.isascii() or not self.token.isprintable():
            what = f"a token needs {MIN_TOKEN} characters or more, plain ASCII"
            raise HwsiError(Reason.OPTION_INVALID, what, "leave it out, and a random one is made")
        if not self.slides.is_dir():
            raise HwsiError(Reason.SLIDE_MISSING, f"there is no folder {self.slides}", "name the folder of the slides")
        if not self.loopback and not self.tls:
            what = f"on {self.host} token and slides would travel in the clear"
            raise HwsiError(Reason.OPTION_INVALID, what, "give --tls-cert and --tls-key, or use 127.0.0.1 and a tunnel")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def knows_host(self, host: str) -> bool:
        """Whether a request's Host header (without port) names this server; a rebound DNS name does not."""
        return host in LOOPBACK_NAMES or host == self.host if self.loopback else True

    @property
    def feedback(self) -> Path:
        """The store of verdicts."""
        return self.job / "feedback.sqlite"

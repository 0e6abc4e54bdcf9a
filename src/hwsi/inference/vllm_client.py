"""What is said to a vLLM server: its completions API with prompts of embeddings, streamed.

- Only the address that was given is ever contacted: no redirect is followed, no proxy of the environment used.
- A prompt is a tensor written by ``torch.save``, in base64 (``prompt_embeds``); tokens come back as ids
  (``return_token_ids``), so that nothing is tokenised again. Source: vLLM's documentation, "Prompt Embedding
  Inputs" and "OpenAI-Compatible Server"; docs/api.md names the version.
- A connection belongs to one request; closing it is how a request is given up.

Notation: T tokens of a prompt, D width.
"""

import base64
import io
import json
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from hwsi.errors import HwsiError, Reason

KEY = "HWSI_VLLM_KEY"
"""The environment variable of the server's key."""

SERVE_THIS = "write this model's language model with hwsi convert MODEL FOLDER --language-model, and serve that FOLDER"

_MOST_BYTES = 1 << 20
_MOST_WORDS = 300
_NO_ADDRESS = "give it as http://HOST:PORT/v1"
_UP = "see that vllm serve runs there and is ready, then ask again"


@dataclass(frozen=True)
class VllmClient:
    """A vLLM server.

    Attributes:
        url: its address; ``/v1`` may be left out. key: sent as a bearer token, if there is one.
        timeout_s: for the connection, and for each next token.

    Errors: option_invalid, for what is no address or no key.
    """

    url: str
    key: str = field(default="", repr=False)
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        try:
            parts, port = urlsplit(self.url), urlsplit(self.url).port
        except ValueError:
            parts, port = urlsplit(""), None
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not plain:
            raise HwsiError(Reason.OPTION_INVALID, f"{self.url!r} is no address of a vLLM server", _NO_ADDRESS)
        if not (self.key.isascii() and self.key.isprintable()):
            raise HwsiError(Reason.OPTION_INVALID, f"the key in {KEY} is not plain ASCII", "correct it")

    @property
    def in_the_clear(self) -> bool:
        """Whether what is sent leaves this machine and can be read on the way."""
        try:
            here = ip_address(self.host).is_loopback
        except ValueError:
            here = self.host == "localhost"
        return urlsplit(self.url).scheme == "http" and not here

    @property
    def host(self) -> str:
        """The machine."""
        return urlsplit(self.url).hostname or ""

    def served(self) -> str:
        """The name of the model that it serves.

        Errors: vllm_unreachable, vllm_refused.
        """
        with self._answered("GET", "/models") as response:
            return str(json.loads(response.read(_MOST_BYTES))["data"][0]["id"])

    def complete(self, prompt: Tensor, **settings: Any) -> Generator[dict[str, Any]]:
        """Go on behind a prompt (T, D): the choice of each event of the stream, as it comes.

        Closing the iterator gives the request up.

        Errors: vllm_unreachable, vllm_refused; option_invalid, if the server takes no embeddings; weights_mismatch, if
        its model has another width.
        """
        body = {"prompt_embeds": encode(prompt), "stream": True, "return_token_ids": True, **settings}
        with self._answered("POST", "/completions", body) as response:
            while line := response.readline(_MOST_BYTES):
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if "error" in event:
                    raise self._refused(500, _message(data))
                for choice in event["choices"]:
                    if choice.get("finish_reason") in ("abort", "error"):
                        raise ValueError("it gave the request up")
                    yield choice
            raise ValueError("it broke off")

    @contextmanager
    def _answered(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Iterator[HTTPResponse]:
        """The response to a request, of status 200."""
        parts = urlsplit(self.url)
        connection: HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = HTTPSConnection(self.host, parts.port, timeout=self.timeout_s, context=context)
        else:
            connection = HTTPConnection(self.host, parts.port, timeout=self.timeout_s)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, f"{parts.path.rstrip('/').removesuffix('/v1')}/v1{path}", data, headers)
            response = connection.getresponse()
            if response.status != 200:
                raise self._refused(response.status, _message(response.read(_MOST_BYTES)))
            yield response
        except (OSError, HTTPException) as error:
            what = f"the vLLM server at {self.url} cannot be reached: {error or type(error).__name__}"
            raise HwsiError(Reason.VLLM_UNREACHABLE, what, _UP) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"what answers at {self.url} does not speak as vLLM does: {error}"
            raise HwsiError(Reason.VLLM_UNREACHABLE, what, _UP) from error
        finally:
            connection.close()

    def _refused(self, status: int, message: str) -> HwsiError:
        """What an error of the server's means here."""
        if "enable-prompt-embeds" in message:
            what = f"the vLLM server at {self.url} takes no embeddings"
            return HwsiError(Reason.OPTION_INVALID, what, "start it with --enable-prompt-embeds")
        if "hidden_size" in message:
            what = f"the vLLM server at {self.url} holds a model of another width: {message}"
            return HwsiError(Reason.WEIGHTS_MISMATCH, what, SERVE_THIS)
        what = f"the vLLM server at {self.url} answered {status}: {message}"
        todo = f"set {KEY} to its key" if status in (401, 403) else "see its log"
        return HwsiError(Reason.VLLM_REFUSED, what, todo)


def encode(prompt: Tensor) -> str:
    """A prompt (T, D) float as the API takes it: the bytes of ``torch.save``, in base64."""
    data = io.BytesIO()
    torch.save(prompt.cpu().clone(), data)  # cloned: a view would bring all of its storage
    return base64.b64encode(data.getvalue()).decode()


def _message(data: bytes) -> str:
    """What an error says: in ``message`` of ``error``, in former versions in ``message``, or in plain text."""
    try:
        told = json.loads(data)
    except ValueError:
        told = data.decode("utf-8", "replace")
    inner = told.get("error", told) if isinstance(told, dict) else told
    words = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(words)[:_MOST_WORDS]

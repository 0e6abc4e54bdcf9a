"""The API that OpenAI's clients speak: ``/v1/models`` and ``/v1/chat/completions``; a slide is a part of the content.

- The last user message is the question; the slide is the last one that any message names.
- Evidence stands in ``hwsi`` of the message, and in a stream of the last chunk's delta: clients keep what they do not
  know. No event has a name, since clients would take it for a chunk.
- Nothing is ever fetched: a part with an address is refused.
"""

import json
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hwsi.errors import HwsiError
from hwsi.inference.studied import MAX_NEW_TOKENS
from hwsi.server import asking
from hwsi.server.events import response
from hwsi.server.exchange import Exchange
from hwsi.server.problems import DOCUMENTED, Problem, tell
from hwsi.server.state import Server, server_of, user_of

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=DOCUMENTED)
STARTED = int(time.time())


class _Lenient(BaseModel):
    """Clients send more than is read here."""

    model_config = ConfigDict(extra="allow")


class TextPart(_Lenient):
    """Words."""

    type: Literal["text"]
    text: str = Field(max_length=20_000)


class Named(BaseModel):
    """A slide of the library, by id or name."""

    id: str = ""
    name: str = ""


class SlidePart(_Lenient):
    """A slide."""

    type: Literal["slide"]
    slide: Named


Part = Annotated[TextPart | SlidePart, Field(discriminator="type")]


class Message(_Lenient):
    """What one side said."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=20_000)] | list[Part]


class Completion(_Lenient):
    """A wish for words; what is not named here is not read."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=200)
    stream: bool = False
    n: Literal[1] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """The one model of this server."""
    name = f"hwsi-{server_of(request).preset.name}"
    return {"object": "list", "data": [{"id": name, "object": "model", "created": STARTED, "owned_by": "hwsi"}]}


@router.post("/chat/completions", response_model=None)
async def complete(request: Request, wish: Completion) -> StreamingResponse | JSONResponse:
    """Answer the last user message about the slide that is named."""
    server = server_of(request)
    name = f"hwsi-{server.preset.name}"
    if wish.model != name:
        raise Problem(404, "not_found", f"there is no model {wish.model[:100]!r}", f"use {name}")
    question = await server.pixels.run(lambda: _question(server, wish))
    seen = await server.pixels.run(lambda: server.readable(question.slide))
    question = replace(question, seen=seen)
    exchange = asking.ask(server, user_of(request), question)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": name}
    if wish.stream:
        return response(_chunks(server, question, exchange, head))
    said = asking.told_answer(server, question, await _unless_gone(request, exchange))
    message = {"role": "assistant", "content": said["text"], "hwsi": said}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice]})


async def _unless_gone(request: Request, exchange: Exchange) -> Any:
    """The answer; a client that goes away while it is made is noticed now and then, and its question cancelled."""
    events = exchange.events()
    try:
        async for name, said in events:
            if name == "result":
                return said
            if await request.is_disconnected():
                break
    finally:
        await events.aclose()
    raise exchange.failed if isinstance(exchange.failed, HwsiError | Problem) else _stopped(exchange.failed)


def _stopped(error: Exception | None) -> Problem:
    return Problem(503, *tell(error or CancelledError()).model_dump().values())


def _question(server: Server, wish: Completion) -> asking.Question:
    """Raises Problem (404, 422)."""
    slide, text = "", ""
    for message in wish.messages:
        parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        for part in parts:
            if isinstance(part, SlidePart):
                named = part.slide
                slide = server.library.entry(named.id).id if named.id else server.library.named(named.name).id
        if message.role == "user":
            text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    if not slide:
        advice = 'add {"type": "slide", "slide": {"id": "..."}} to the content'
        raise Problem(422, "invalid", "no message names a slide", advice)
    most = wish.max_completion_tokens or wish.max_tokens or MAX_NEW_TOKENS
    return asking.Question(slide, text, max_new_tokens=min(most, MAX_NEW_TOKENS))


async def _chunks(
    server: Server, question: asking.Question, exchange: Exchange, head: dict[str, Any]
) -> AsyncIterator[str]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        made = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        return f"data: {json.dumps(made, ensure_ascii=False, allow_nan=False)}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    async for kind, said in exchange.events():
        if kind == "token":
            yield chunk({"content": said})
        elif kind in ("weighing", "wait"):
            yield ": still at it\n\n"
        elif kind == "result":
            yield chunk({"hwsi": asking.told_answer(server, question, said)}, "stop")
        else:  # clients raise on a chunk that has an error
            told = {"message": f"{said.what} {said.advice}".strip(), "type": said.reason, "code": said.reason}
            yield f"data: {json.dumps({'error': told}, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"

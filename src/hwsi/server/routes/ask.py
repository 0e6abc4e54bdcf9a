"""Questions, answers, reports: streamed as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from hwsi.features import evidence_geojson
from hwsi.inference.questions import MAX_CHOICES, MAX_QUESTION_CHARS
from hwsi.server import asking
from hwsi.server.area import Area, inside
from hwsi.server.events import event, response
from hwsi.server.exchange import Exchange
from hwsi.server.problems import DOCUMENTED, Problem, missing
from hwsi.server.routes.jobs import STREAM
from hwsi.server.state import Server, server_of, user_of

if TYPE_CHECKING:
    from hwsi.inference.seen import Seen

router = APIRouter(prefix="/api", tags=["questions"], responses=DOCUMENTED)

LOOK_S = 1.0
"""So often it is looked whether a client still waits."""

Coordinate = Annotated[float, Field(gt=-1e7, lt=1e7, allow_inf_nan=False)]
Corner = tuple[Coordinate, Coordinate]


class Ask(BaseModel):
    """A question; with ``polygon`` the model reads only what lies inside."""

    question: str = Field(max_length=MAX_QUESTION_CHARS, examples=["What tissue is this?"])
    choices: list[Annotated[str, Field(max_length=MAX_QUESTION_CHARS)]] = Field(default=[], max_length=MAX_CHOICES)
    polygon: list[Corner] | None = Field(default=None, min_length=3, max_length=500)
    evidence: bool = True


class Write(BaseModel):
    """How a report is written."""

    evidence: bool = True


@router.post("/slides/{slide}/ask", responses=STREAM, response_class=StreamingResponse)
async def ask(request: Request, slide: str, asked: Ask) -> StreamingResponse:
    """Ask about a slide, or about a part of it; the words come as they are made, then what they rest on."""
    server = server_of(request)
    area: Area | None = tuple(asked.polygon) if asked.polygon else None

    def checked() -> "Seen | None":
        seen = server.readable(slide)
        if seen is None and area is not None:
            inside(server.encoded.get(slide).read.hierarchy, area)
        return seen

    seen = await server.pixels.run(checked)
    question = asking.Question(slide, asked.question, tuple(asked.choices), area, asked.evidence, seen=seen)
    exchange = asking.ask(server, user_of(request), question)
    return response(_events(exchange, "answer", lambda made: asking.told_answer(server, question, made)))


@router.post("/slides/{slide}/report", responses=STREAM, response_class=StreamingResponse)
async def report(request: Request, slide: str, how: Write | None = None) -> StreamingResponse:
    """Write the preliminary report of a slide, each sentence with what it rests on."""
    server = server_of(request)
    await server.pixels.run(lambda: server.encoded.get(slide))
    exchange = asking.report(server, user_of(request), slide, evidence=how is None or how.evidence)

    def keep(made: Any) -> dict[str, Any]:
        server.reports.put(slide, made)
        return asking.told_report(made)

    return response(_events(exchange, "report", keep))


@router.get("/slides/{slide}/report")
async def last_report(request: Request, slide: str) -> dict[str, Any]:
    """The last report that was written of a slide."""
    made = server_of(request).reports.get(slide)
    if made is None:
        raise missing("no report of this slide was written yet")
    return asking.told_report(made)


@router.get("/answers/{answer}")
async def answer(request: Request, answer: str) -> dict[str, Any]:
    """An answer that was given before."""
    return _answer(server_of(request), answer)


@router.get("/answers/{answer}/evidence.geojson")
async def evidence(request: Request, answer: str) -> JSONResponse:
    """The evidence of an answer, for QuPath."""
    found = evidence_geojson(_answer(server_of(request), answer))
    headers = {"Content-Disposition": f'attachment; filename="evidence-{answer}.geojson"'}
    return JSONResponse(found, media_type="application/geo+json", headers=headers)


class Weighed(BaseModel):
    """A piece of tissue and what it is worth to an answer."""

    label: str
    box: tuple[int, int, int, int]
    worth: float


class Heat(BaseModel):
    """What all regions and patches are worth, in ``unit``; below zero they speak against the answer."""

    unit: str
    regions: list[Weighed]
    patches: list[Weighed]


@router.get("/answers/{answer}/heat")
async def heat(request: Request, answer: str) -> Heat:
    """An answer's heat map: every region and patch that the model read was left out, and added alone, once."""
    server = server_of(request)
    question = server.asked.get(answer)
    if question is None:
        raise missing("there is no such answer; the server keeps the last ones only")
    task = await server.pixels.run(lambda: asking.heat(server, user_of(request), question))
    made = asyncio.wrap_future(task.future)
    try:
        while not (await asyncio.wait({made}, timeout=LOOK_S))[0]:
            if await request.is_disconnected():
                raise Problem(503, "cancelled", "the client has gone")
        return Heat(**made.result())
    finally:
        task.cancel()


def _answer(server: Server, answer: str) -> dict[str, Any]:
    found = server.answers.get(answer)
    if found is None:
        raise missing("there is no such answer; the server keeps the last ones only")
    return found


async def _events(exchange: Exchange, name: str, told: Callable[[Any], dict[str, Any]]) -> AsyncIterator[str]:
    yield event("queued", {"position": exchange.position})
    async for kind, said in exchange.events():
        if kind == "token":
            yield event("token", {"text": said})
        elif kind == "weighing":
            yield event("weighing", {})
        elif kind == "wait":
            yield ": still at it\n\n"
        elif kind == "result":
            yield event(name, told(said))
        else:
            yield event("error", said.model_dump())

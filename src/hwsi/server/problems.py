"""What a client is told when something is wrong: one shape for all errors, never a traceback.

- An ``HwsiError`` keeps its reason code; paths of the server's disk are cut out of its words.
"""

from collections.abc import Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from hwsi.errors import HwsiError, Reason

_STATUS = {
    Reason.SLIDE_MISSING: 404,
    Reason.FEATURES_MISSING: 409,
    Reason.FEATURES_MISMATCH: 409,
    Reason.EXTRA_MISSING: 501,
    Reason.WEIGHTS_MISSING: 503,
    Reason.VLLM_UNREACHABLE: 503,
    Reason.VLLM_REFUSED: 503,
    Reason.OUTPUT_UNWRITABLE: 507,
    Reason.DISK_FULL: 507,
}
"""All other reasons: 422, what was handed in cannot be used."""
_NAMES = {401: "unauthorised", 403: "forbidden", 404: "not_found", 405: "not_allowed", 409: "exists", 413: "too_large"}


class Told(BaseModel):
    """An error as JSON."""

    reason: str
    what: str
    advice: str = ""


class Problem(Exception):
    """Something that only a server can say of a request."""

    def __init__(
        self, status: int, reason: str, what: str, advice: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.headers = status, dict(headers or {})
        self.told = Told(reason=reason, what=what, advice=advice)
        super().__init__(what)


def missing(what: str) -> Problem:
    """404."""
    return Problem(404, "not_found", what)


def busy(what: str, after_s: float) -> Problem:
    """429: come again in so many seconds."""
    seconds = str(max(1, round(after_s)))
    return Problem(429, "busy", what, f"try again in {seconds} s", {"Retry-After": seconds})


def tell(error: BaseException, hidden: tuple[Path, ...] = ()) -> Told:
    """What is said of an error; of one that is a bug, only its kind. ``hidden`` are folders left out of the words."""
    if isinstance(error, Problem):
        return error.told
    if isinstance(error, HwsiError):
        what, advice = error.what, error.todo
        for folder in hidden:
            what, advice = (text.replace(f"{folder}/", "") for text in (what, advice))
        return Told(reason=error.reason.value, what=what, advice=advice)
    if isinstance(error, CancelledError):
        return Told(reason="cancelled", what="the question was cancelled")
    return Told(reason="internal", what=f"internal error: {type(error).__name__}", advice="see the server's log")


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": Told} for status in (400, 401, 403, 404, 409, 413, 422, 429, 501, 503, 507)
}
"""Errors that any endpoint may give, for the OpenAPI document."""


def install(app: FastAPI, hidden: tuple[Path, ...]) -> None:
    """Make an app answer errors in this way."""

    async def problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return JSONResponse(error.told.model_dump(), error.status, error.headers)

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HwsiError)
        return JSONResponse(tell(error, hidden).model_dump(), _STATUS.get(error.reason, 422))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse(Told(reason="invalid", what=f"{where}: {first['msg']}").model_dump(), 422)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        reason = _NAMES.get(error.status_code, "invalid")
        return JSONResponse(
            Told(reason=reason, what=str(error.detail)).model_dump(), error.status_code, dict(error.headers or {})
        )

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HwsiError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)

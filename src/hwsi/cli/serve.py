"""``hwsi serve``: the viewer and the API for the slides of a folder."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import note, out
from hwsi.cli.options import DeviceOpt, PresetOpt


def serve(
    slides: Annotated[Path, typer.Argument(metavar="[SLIDES_DIR]", help="Folder of the slides to show.")] = Path("."),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen.")] = 8000,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; another than this machine's own needs TLS.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="HWSI_TOKEN", help="What lets a client in; random if left out."),
    ] = None,
    preset: PresetOpt = "nano",
    job: Annotated[Path | None, typer.Option("--job", help="Folder of feature files, feedback and scores.")] = None,
    device: DeviceOpt = "auto",
    show_labels: Annotated[
        bool, typer.Option("--show-labels", help="Also show images of labels; they may name patients.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, PEM.")] = None,
    vllm: Annotated[
        str | None,
        typer.Option(
            "--vllm", help="Address of a vLLM server that says the words; its key is taken from HWSI_VLLM_KEY."
        ),
    ] = None,
) -> None:
    """Show the slides of a folder in a browser and answer questions about them."""
    from hwsi.errors import HwsiError, Reason

    if (tls_cert is None) != (tls_key is None):
        raise HwsiError(Reason.OPTION_INVALID, "a certificate needs its key", "give both --tls-cert and --tls-key")
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise HwsiError(Reason.OPTION_INVALID, f"there is no file {file}", "correct the path")
    try:
        import uvicorn

        from hwsi.inference.vllm_client import KEY, VllmClient
        from hwsi.server import Settings, create_app
    except ImportError as error:
        what = f"the server needs {error.name}"
        raise HwsiError(Reason.EXTRA_MISSING, what, "pip install 'hwsi[serve]'") from error
    settings = Settings(
        slides=slides,
        job=slides / ".hwsi" if job is None else job,
        preset=preset,
        device=device,
        host=host,
        port=port,
        tls=tls_cert is not None,
        show_labels=show_labels,
        vllm=VllmClient(vllm, os.environ.get(KEY, "")) if vllm is not None else None,
        token=token or secrets.token_urlsafe(32),
    )
    app = create_app(settings)
    if settings.vllm is not None and settings.vllm.in_the_clear:
        note(f"hwsi: note: prompts, made of slides, travel to {settings.vllm.host} in the clear.")
    name = f"[{host}]" if ":" in host else host
    out().print(f"http{'s' * settings.tls}://{name}:{port}/#token={settings.token}", markup=False)
    if show_labels:
        note("hwsi: note: images of labels are shown; they may name patients.")
    note("hwsi: for research, not for diagnosis; end with Ctrl-C")
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        limit_concurrency=512,
        h11_max_incomplete_event_size=64 << 10,
        timeout_graceful_shutdown=5,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )

"""The page with a network behind it, for the browsers of this machine."""

import errno
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.checks import whole
from gpunn.errors import DataError, OptionError
from gpunn.layers import Layer
from gpunn.web.reader import Reader

__all__ = ["STATIC", "app", "serve"]

STATIC = Path(__file__).parent / "static"
_LIMIT = 1_000_000  # bytes of a request; a drawing has 78,400
_MISSING = 'the page needs Starlette and uvicorn: pip install "gpunn[web]"'
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" some browsers would name no origin either
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(net: Layer, port: int = 8000, *, browser: bool = True) -> None:
    """Serve the page on http://127.0.0.1:port, to this machine alone, until Ctrl-C; port 0 takes one that is free.

    Drawings are read by `net` where it is: on its device, with layers of your own. `browser` opens the page. Raises
    OptionError for a port that cannot be had, a network that is not for drawings, or where the extra "web" is missing.
    """
    import webbrowser

    try:
        import uvicorn
    except ImportError:
        raise OptionError(_MISSING) from None
    application = app(net)
    listener = _listen(whole("port", port))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    print(f"draw on {address}   (Ctrl-C ends it)", flush=True)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """End without waiting for whoever has sent half a request."""
            for connection in list(self.server_state.connections):
                connection.transport.close()  # what has been answered is still sent
            await super().shutdown(sockets)

    server = Server(uvicorn.Config(application, lifespan="off", log_level="warning", timeout_graceful_shutdown=1))
    if browser:
        webbrowser.open(address)  # which finds the socket listening, and waits for the server
    with listener, suppress(KeyboardInterrupt):  # which comes once all that was open has been closed
        server.run(sockets=[listener])
    print("ended")


def _listen(port: int) -> socket.socket:
    if port > 65535:
        raise OptionError(f"port must be from 0 to 65535, got {port}")
    # With the protocol named, asyncio sends small packets at once; otherwise each answer waits 40 ms for company
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # a port that was in use a minute ago is free; elsewhere this would be to share it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise OptionError(f"port {port} {reason}; name another with --port, or 0 for any that is free") from None
    return listener


def app(net: Layer) -> Any:
    """The page as an ASGI application."""
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import FileResponse, PlainTextResponse, Response
        from starlette.routing import Route
    except ImportError:
        raise OptionError(_MISSING) from None
    reader = Reader(net)
    description = json.dumps(reader.description())
    height, width = reader.size

    async def body(request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        data = bytearray()
        if length.isdecimal() and int(length) <= _LIMIT:  # what says that it is larger is not read at all
            try:
                async for part in request.stream():
                    data += part
                    if len(data) > _LIMIT:
                        break
                else:
                    return bytes(data)
            except ClientDisconnect:
                raise HTTPException(400, "the drawing ended early") from None
        raise HTTPException(413, f"a drawing has {height * width} bytes", {"Connection": "close"})

    async def read(request: Request) -> Response:
        origin = request.headers.get("origin")  # where the page that asks is from; browsers name it
        if origin is not None and origin != f"http://{request.headers['host']}":
            raise HTTPException(403, "drawings are taken from the page of this server alone")
        data = await body(request)
        if len(data) != height * width:
            raise HTTPException(400, f"expected {height * width} bytes, one for each pixel, got {len(data)}")
        try:
            arrays = reader.read(np.frombuffer(data, np.uint8).reshape(height, width))
        except DataError as error:
            raise HTTPException(400, str(error)) from None
        answer = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays)
        return Response(answer, media_type="application/octet-stream")

    async def network(request: Request) -> Response:
        return Response(description, media_type="application/json")

    async def file(request: Request) -> Response:
        return FileResponse(STATIC / _FILES[request.url.path])

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(error.detail + "\n", error.status_code, error.headers)

    def with_headers(app: Any) -> Any:  # an argument that Starlette 0.37 passes by this name
        """The application, whose every answer has the headers of `_HEADERS`."""
        more = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]

        async def answering(scope: Any, receive: Any, send: Any) -> None:
            async def send_with_more(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], *more]}
                await send(message)

            await app(scope, receive, send_with_more)

        return answering

    return Starlette(
        routes=[
            Route("/network", network),
            Route("/read", read, methods=["POST"]),
            *(Route(path, file) for path in _FILES),
        ],
        middleware=[
            Middleware(with_headers),
            # A page elsewhere can give its own name our address, but not another name to its requests
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
        ],
        exception_handlers={HTTPException: refuse},
    )


_FILES = {"/": "index.html", **{f"/{name}": name for name in ("style.css", "ask.js", "page.js")}}

"""The page, served live: what it asks for, as a Starlette application (the extra `viewer`).

    GET  /, /page.css, /*.js        the page
    GET  /scene                     what is shown: frames, size, who answers, layers, formats
    GET  /layer/NAME/I              image NAME (see layers) of frame I, a PNG
    GET  /tracks?queries=&answer=   Tracks of queries as text by answer number k, see packing
    GET  /export/FORMAT?queries=&answer=   the same as a file, by the writers that the commands have
    GET, PUT /pins                  {"revision", "pins": [[track, frame, x, y, visible], ...]}, see loaders.pins
    GET, POST, DELETE /fit          how fitting the run to its pins stands; begin it, cancel it: see fitting

What cannot be answered is a 400 with {"error": a line}. Only this page may ask: requests that come with another Host (a
foreign name that points here) or from another site's page are a 403. No path of a request ever becomes that of a file.
"""

import ipaddress
import json
import socket
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exports.formats import FORMATS
from loaders.pins import as_pin, check_pins, read_pins, revision, write_pins
from util import UserError
from viewer.formats import export
from viewer.frames import encode
from viewer.packing import pack_tracks
from viewer.page import FILES, page

MOST_BYTES = 2**22  # of what a page sends
POLICY = ("default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
          "frame-ancestors 'none'")


def make_app(scene, host="127.0.0.1"):
    """The application that shows a Scene, to those that call it by `host` or a name of this machine."""
    routes = [
        Route("/", lambda request: Response(page(), media_type="text/html")),
        *(Route(f"/{name}", static(name, kind)) for name, kind in FILES.items()),
        Route("/scene", lambda request: JSONResponse(scene.describe() | {"formats": list(FORMATS)})),
        Route("/layer/{name}/{i:int}", lambda request: layer(scene, **request.path_params)),
        Route("/tracks", lambda request: JSONResponse(pack_tracks(asked(scene, request.query_params)))),
        Route("/export/{name}", lambda request: exported(scene, request)),
        Route("/pins", lambda request: pins_of(scene)),
        Route("/pins", put_pins(scene), methods=["PUT"]),
        Route("/fit", lambda request: fit(scene, request.method), methods=["GET", "POST", "DELETE"]),
    ]
    handlers = {UserError: lambda request, error: refusal(400, str(error)),
                HTTPException: lambda request, error: refusal(error.status_code, error.detail)}
    return OnlyOurPage(Starlette(routes=routes, exception_handlers=handlers), host)


def refusal(status, line):
    return JSONResponse({"error": line}, status)


def static(name, kind):
    return lambda request: Response(page(name), media_type=kind)


def layer(scene, name, i):
    """One image of a frame."""
    if name not in scene.layers.names or not 0 <= i < scene.frames.num_frames:
        raise UserError(f"layer {name}, frame {i}: expected one of {', '.join(scene.layers.names)} and a frame 0 to "
                        f"{scene.frames.num_frames - 1}")
    return Response(encode(scene.layers.image(name, i)), media_type="image/png")


def asked(scene, parameters):
    """The Tracks that a request's parameters ask for."""
    number = parameters.get("answer", "0")
    if not number.isdecimal() or int(number) >= len(scene.answers):
        raise UserError(f"answer {number}: expected a number from 0 to {len(scene.answers) - 1}")
    if not parameters.get("queries"):
        raise UserError('queries: none given; expected "t,y,x;t,y,x" or grid:STEP@FRAME')
    return scene.answers[int(number)].tracks(parameters["queries"])


def exported(scene, request):
    file, data = export(request.path_params["name"], asked(scene, request.query_params))
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    return Response(data, headers=headers, media_type="application/octet-stream")


def pins_of(scene):
    pins = read_pins(scene.pins, scene.answers[0])
    return JSONResponse({"revision": revision(scene.pins), "file": str(scene.pins), "pins": pins})


def fit(scene, method):
    """Begin or cancel fitting, or neither -> how it stands."""
    if scene.fitting is None:
        raise UserError("pins are fitted by a run: open the page with --run DIR")
    if method == "POST":
        with scene.writing:
            scene.fitting.start()
    elif method == "DELETE":
        scene.fitting.cancel()
    return JSONResponse(scene.fitting.status())


def put_pins(scene):
    """The endpoint that takes all pins, in place of those before. 409 when others wrote since they were read."""

    async def endpoint(request):
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"pins: more than {MOST_BYTES} bytes")
        try:
            sent = json.loads(body)
            rows, based_on = sent["pins"], sent["revision"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError('pins: expected JSON {"revision": text, "pins": [[track, frame, x, y, visible], ...]}'
                            ) from None
        return await run_in_threadpool(replace_pins, scene, rows, based_on)

    return endpoint


def replace_pins(scene, rows, based_on):
    if not isinstance(rows, list):
        raise UserError("pins: expected a list of rows")
    pins = [as_pin(row, f"pin {number}") for number, row in enumerate(rows)]
    check_pins(pins, lambda row: f"pin {row}", scene.answers[0])
    with scene.writing:
        if revision(scene.pins) != based_on:
            raise HTTPException(409, f"{scene.pins}: changed since this page read it; reload the page")
        write_pins(scene.pins, pins)
    return pins_of(scene)


class OnlyOurPage:
    """Middleware: answers a request only if its Host is this server and no other site's page sent it."""

    def __init__(self, app, host):
        self.app, self.host = app, host

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        reason = self.refuses(scope["path"], headers)
        if reason:
            await PlainTextResponse(f"refused: {reason}\n", 403)(scope, receive, send)
            return
        await self.app(scope, receive, with_headers(send))

    def refuses(self, path, headers):
        """Why a request is refused, or None."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_this_server(host, self.host):
            return f"Host {host!r} is not this server"
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return f"sent by a page of {origin}"
        if path != "/" and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "sent by a page of another site"
        return None


def is_this_server(netloc, host):
    """Whether a Host header names the server bound to `host`: a loopback name, or, bound to more, an address or a name.

    A foreign name that was made to point at this machine (DNS rebinding) is none of these.
    """
    try:
        name = (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return False
    if name in ("localhost", host.lower()) or (is_address(name) and ipaddress.ip_address(name).is_loopback):
        return True
    loopback = host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
    return not loopback and (is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower()))


def is_address(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def with_headers(send):
    """`send`, with the headers that keep a page to itself."""
    ours = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "cache-control": "no-store",
            "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin"}

    async def sending(message):
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in ours.items()]
            message = message | {"headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending

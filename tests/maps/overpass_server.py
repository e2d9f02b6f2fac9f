"""A server on the loopback that answers as Overpass does: from a small town, or with the errors that it is told."""

import gzip
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler, str], None]

ERROR_PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><title>OSM3S Response</title></head><body>
<p>The data included in this document is from www.openstreetmap.org. The data is made available under ODbL.</p>
<p><strong style="color:#FF0000">Error</strong>: runtime error: {reason} </p>
</body></html>"""


def town(south: float, west: float, north: float, east: float) -> str:
    """A street through a box with a house beside it, ways before nodes, and a wood with a glade."""
    lat, lon = 0.5 * (south + north), 0.5 * (west + east)
    points = {
        1: (lat, west), 2: (lat, lon), 3: (lat, east),
        4: (lat + 2e-4, lon), 5: (lat + 2e-4, lon + 2e-4), 6: (lat + 3e-4, lon + 2e-4), 7: (lat + 3e-4, lon),
        11: (lat - 9e-4, lon), 12: (lat - 9e-4, lon + 6e-4), 13: (lat - 5e-4, lon + 6e-4), 14: (lat - 5e-4, lon),
        21: (lat - 8e-4, lon + 2e-4), 22: (lat - 8e-4, lon + 4e-4), 23: (lat - 6e-4, lon + 4e-4),
    }  # fmt: skip
    ways = {
        30: ([1, 2, 3], {"highway": "residential"}),
        31: ([4, 5, 6, 7, 4], {"building": "yes"}),
        32: ([11, 12, 13, 14, 11], {}),
        33: ([21, 22, 23, 21], {}),
    }
    parts = []
    for number, (refs, tags) in ways.items():
        inner = "".join(f'<nd ref="{ref}"/>' for ref in refs)
        inner += "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())
        parts.append(f'<way id="{number}">{inner}</way>')
    parts += [f'<node id="{key}" lat="{y:.7f}" lon="{x:.7f}"/>' for key, (y, x) in points.items()]
    parts.append(
        '<relation id="40"><member type="way" ref="32" role="outer"/><member type="way" ref="33" role="inner"/>'
        '<tag k="type" v="multipolygon"/><tag k="natural" v="wood"/></relation>'
    )
    return "\n".join(parts)


def whole(inside: str, remark: str = "") -> bytes:
    """An answer as Overpass writes it."""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6" generator="Overpass API 0.7.62.8">'
    note = "<note>The data included in this document is from www.openstreetmap.org.</note>"
    meta = '<meta osm_base="2026-11-27T10:20:30Z"/>'
    return f"{head}\n{note}\n{meta}\n{inside}\n{remark}\n</osm>\n".encode()


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    kind: str = "application/osm3s+xml",
    claimed: int | None = None,
    **headers: str,
) -> None:
    """Answer; with `claimed` the header promises so many bytes."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if claimed is None else claimed))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def data(handler: BaseHTTPRequestHandler, query: str) -> None:
    """The town of the box that the query names; packed where the client takes that."""
    box = re.search(r"node\(([-\d.]+),([-\d.]+),([-\d.]+),([-\d.]+)\)", query)
    assert box is not None, query
    body = whole(town(*map(float, box.groups())))
    if "gzip" in handler.headers.get("Accept-Encoding", ""):
        send(handler, 200, gzip.compress(body), Content_Encoding="gzip")
    else:
        send(handler, 200, body)


def busy(status: int, **headers: str) -> Answer:
    """Too many requests, or no slot free."""
    page = ERROR_PAGE.format(reason="open64: 0 Success /osm3s_osm_base Dispatcher_Client::request_read: busy")
    return lambda handler, _: send(handler, status, page.encode(), "text/html", **headers)


def bad_request(handler: BaseHTTPRequestHandler, query: str) -> None:
    send(handler, 400, ERROR_PAGE.format(reason="line 1: parse error").encode(), "text/html")


def remark(handler: BaseHTTPRequestHandler, query: str) -> None:
    """Half of the data, and a remark that tells so: what Overpass answers where a query takes too long."""
    said = '<remark> runtime error: Query timed out in "query" at line 2 after 181 seconds. </remark>'
    send(handler, 200, whole(town(49.0, 8.4, 49.01, 8.41), said))


def page(handler: BaseHTTPRequestHandler, query: str) -> None:
    """What a captive portal or a server under maintenance answers."""
    send(handler, 200, b"<!DOCTYPE html><html><body>Under <b>maintenance</b></body></html>", "text/html")


def broken_off(handler: BaseHTTPRequestHandler, query: str) -> None:
    """The connection ends before what the header promised."""
    body = whole(town(49.0, 8.4, 49.01, 8.41))
    send(handler, 200, body[: len(body) // 2], claimed=len(body))


def cut(handler: BaseHTTPRequestHandler, query: str) -> None:
    """Half of the XML, and a header that fits it."""
    body = whole(town(49.0, 8.4, 49.01, 8.41))
    send(handler, 200, body[: len(body) // 2])


def half(handler: BaseHTTPRequestHandler, query: str) -> None:
    """Complete XML without a third of the nodes."""
    lines = town(49.0, 8.4, 49.01, 8.41).splitlines()
    send(handler, 200, whole("\n".join(line for line in lines if 'node id="1' not in line)))


def empty(handler: BaseHTTPRequestHandler, query: str) -> None:
    send(handler, 200, whole(""))


def silent(handler: BaseHTTPRequestHandler, query: str) -> None:
    """No answer for long."""
    time.sleep(30.0)


def hung_up(handler: BaseHTTPRequestHandler, query: str) -> None:
    handler.connection.close()


@dataclass
class Overpass:
    """What a server was asked."""

    url: str
    queries: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)


@contextmanager
def overpass_server(*answers: Answer) -> Iterator[Overpass]:
    """A server that gives these answers in turn, and the last one ever after."""
    told = Overpass("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            query = urllib.parse.parse_qs(self.rfile.read(length).decode())["data"][0]
            told.queries.append(query)
            told.agents.append(self.headers["User-Agent"])
            answers[min(len(told.queries), len(answers)) - 1](self, query)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            with suppress(OSError, ValueError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    told.url = f"http://127.0.0.1:{server.server_port}/api/interpreter"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()

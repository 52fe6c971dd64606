"""A small Tornado application, to be run several times behind one port.

`GET /` answers with the number of the process, after `?delay=0.2` seconds if asked to, and
`GET /healthz` with `ok`. SIGTERM closes the port and lets the requests in flight finish; then the
connections are closed and the process ends.
"""

import argparse
import asyncio
import os
import signal

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class Counted(RequestHandler):
    """Knows how many requests are being answered."""

    in_flight = 0
    stopping = False

    def prepare(self):
        Counted.in_flight += 1
        if Counted.stopping:
            self.set_header("Connection", "close")

    def on_finish(self):
        Counted.in_flight -= 1


class ProcessNumber(Counted):
    async def get(self):
        await asyncio.sleep(float(self.get_argument("delay", "0")))
        self.set_header("Content-Type", "text/plain")
        self.write(f"{os.getpid()}\n")


class Health(RequestHandler):
    def get(self):
        self.write("ok\n")


async def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS")
    host, _, port = options.parse_args().listen.rpartition(":")

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = HTTPServer(Application([("/healthz", Health), ("/.*", ProcessNumber)]))
    sockets = bind_sockets(int(port), host)
    server.add_sockets(sockets)
    address, port = sockets[0].getsockname()[:2]
    print(f"listening on {address}:{port}", flush=True)

    await stop.wait()
    Counted.stopping = True
    server.stop()
    while Counted.in_flight:
        await asyncio.sleep(0.01)
    # What was written last is still on its way out of the buffers.
    await asyncio.sleep(0.05)
    await server.close_all_connections()


asyncio.run(main())

"""A service of gRPC and its caller, made of the library alone: messages are plain bytes.

`serve` prints where it listens. `call ADDRESS` calls the service there in all ways, says what was not
as it should be, and ends with 1 then.
"""

import sys
import threading
import time
from concurrent import futures

import grpc

LARGE = 3_000_000


# The service.


def unary(request, context):
    context.set_trailing_metadata((("x-behind", "trailer"), ("x-bin", b"\x00\xff")))
    context.send_initial_metadata((("x-before", "header"),))
    return b"got " + request


def counted(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def collected(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def echoed(requests, context):
    for request in requests:
        yield request


def failed(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % s\u00fcr")


def failed_late(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def refused_early(requests, context):
    # Without reading what else comes.
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


cancelled = threading.Event()


def endless(request, context):
    context.add_callback(cancelled.set)
    while context.is_active():
        yield b"more"
        time.sleep(0.05)


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(10) else b"no"


def late(request, context):
    time.sleep(5)
    return b"late"


def serve():
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Counted": grpc.unary_stream_rpc_method_handler(counted),
        "Collected": grpc.stream_unary_rpc_method_handler(collected),
        "Echoed": grpc.stream_stream_rpc_method_handler(echoed),
        "Failed": grpc.unary_unary_rpc_method_handler(failed),
        "FailedLate": grpc.unary_stream_rpc_method_handler(failed_late),
        "RefusedEarly": grpc.stream_unary_rpc_method_handler(refused_early),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
        "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
        "Late": grpc.unary_unary_rpc_method_handler(late),
    }
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


# The caller.

wrong = []


def expect(what, seen, wanted):
    if seen != wanted:
        wrong.append(f"{what}: {seen!r} instead of {wanted!r}")


def status_of(call):
    try:
        result = call()
        list(result) if not isinstance(result, bytes) else None
    except grpc.RpcError as error:
        return error.code(), error.details(), dict(error.trailing_metadata() or ())
    return grpc.StatusCode.OK, "", {}


def paused(pieces):
    for piece in pieces:
        yield piece
        time.sleep(0.02)


def check(channel):
    def method(kind, name, service="Calls"):
        return getattr(channel, kind)(f"/test.{service}/{name}")

    one = method("unary_unary", "Unary")
    answer, call = one.with_call(b"this", metadata=(("x-mine", "1"),), timeout=20)
    expect("unary", answer, b"got this")
    expect("initial metadata", dict(call.initial_metadata()).get("x-before"), "header")
    behind = dict(call.trailing_metadata())
    expect("trailing metadata", (behind.get("x-behind"), behind.get("x-bin")), ("trailer", b"\x00\xff"))
    expect("large", len(one(b"x" * LARGE, timeout=20)), LARGE + 4)
    expect("empty", one(b"", timeout=20), b"got ")

    counts = list(method("unary_stream", "Counted")(b"500", timeout=20))
    expect("server streaming", counts, [b"%d" % number for number in range(500)])
    pieces = [b"x" * size for size in (0, 1, 100_000, LARGE)]
    total = method("stream_unary", "Collected")(iter(pieces), timeout=20)
    expect("client streaming", total, b"%d" % sum(map(len, pieces)))
    echoes = list(method("stream_stream", "Echoed")(paused(pieces), timeout=20))
    expect("bidirectional streaming", echoes, pieces)

    code, details, metadata = status_of(lambda: method("unary_unary", "Failed")(b"", timeout=20))
    expect("an error", (code, details), (grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % s\u00fcr"))
    expect("its metadata", metadata.get("x-why"), "because")
    code, details, _ = status_of(lambda: method("unary_stream", "FailedLate")(b"", timeout=20))
    expect("a late error", (code, details), (grpc.StatusCode.DATA_LOSS, "lost"))
    many = paused([b"x" * 10_000] * 50)
    code, details, _ = status_of(lambda: method("stream_unary", "RefusedEarly")(many, timeout=20))
    expect("an early error", (code, details), (grpc.StatusCode.RESOURCE_EXHAUSTED, "enough"))
    code, _, _ = status_of(lambda: method("unary_unary", "Late")(b"", timeout=0.5))
    expect("a deadline", code, grpc.StatusCode.DEADLINE_EXCEEDED)
    code, _, _ = status_of(lambda: method("unary_unary", "Nothing")(b"", timeout=20))
    expect("an unknown method", code, grpc.StatusCode.UNIMPLEMENTED)

    stream = method("unary_stream", "Endless")(b"", timeout=20)
    next(stream)
    stream.cancel()
    expect("a cancelled call", method("unary_unary", "WasCancelled")(b"", timeout=20), b"yes")

    # What the gateway says itself.
    code, details, _ = status_of(lambda: method("unary_unary", "Any", "Secret")(b"x" * 100_000, timeout=20))
    expect("refused", (code, details), (grpc.StatusCode.UNAUTHENTICATED, "Unauthorized"))
    code, _, _ = status_of(lambda: method("stream_stream", "Any", "Nowhere")(paused([b"x"] * 20), timeout=20))
    expect("no route", code, grpc.StatusCode.UNIMPLEMENTED)
    code, _, _ = status_of(lambda: method("unary_unary", "Any", "Gone")(b"", timeout=20))
    expect("no endpoint", code, grpc.StatusCode.UNAVAILABLE)

    calls = [one.future(b"%d" % number, timeout=20) for number in range(300)]
    answers = [call.result() for call in calls]
    expect("many at once", answers, [b"got %d" % number for number in range(300)])


def call(address):
    limits = [("grpc.max_receive_message_length", LARGE * 2)]
    with grpc.insecure_channel(address, options=limits) as channel:
        check(channel)
    for line in wrong:
        print(line)
    print("all as expected" if not wrong else f"{len(wrong)} not as expected")
    sys.exit(bool(wrong))


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])

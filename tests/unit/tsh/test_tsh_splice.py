"""The splice of `tsh proxy ssh`, on a pair of sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading

from pkgs.clients.tsh.connections.splice import TlsStream
from tests.unit.net import certs


def test_what_came_before_our_end_is_not_lost() -> None:
    """OpenSSL calls it an error to end while something is unread."""
    ours, theirs = socket.socketpair()
    client, server = certs.client(), certs.server()

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as tls:
            tls.sendall(b"one word")
            # To our end, which is an empty read.
            with contextlib.suppress(ssl.SSLError):
                tls.unwrap()

    serving = threading.Thread(target=serve)
    serving.start()
    source, nothing = os.pipe()
    os.close(nothing)
    result, sink = os.pipe()
    try:
        stream = TlsStream(ours, client, certs.SERVER_NAME)
        stream.handshake()
        assert stream.splice(source, sink, heard=stream.exactly(1))
        assert os.read(result, 100) == b"one word"
    finally:
        os.close(source)
        os.close(result)
        serving.join(20)
        theirs.close()

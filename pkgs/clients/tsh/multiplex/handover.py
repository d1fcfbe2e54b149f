"""The ProxyCommand of the multiplexer's configuration (with `ProxyUseFdpass yes`): has the multiplexer
connect, hands OpenSSH the socket, and is gone.

    handover SOCKET LOGIN@HOST:PORT

Run as a file by `python -I -S`, once for each connection: it imports the C half of the socket module and
nothing else, ours included.
"""

import _socket
import sys

MAX_ANSWER = 2048


def main() -> int:
    path, target = sys.argv[1:]
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as problem:
        return fail(f"the multiplexer at {path} does not answer: {problem.strerror}; start it with"
                    " 'tsh proxy ssh-multiplex'")  # fmt: skip
    try:
        sock.sendall(target.encode(errors="surrogateescape") + b"\0")
        answer = b""
        # Byte by byte: what follows the answer is the server's, and OpenSSH's to read.
        while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER:
            more = sock.recv(1)
            if not more:
                break
            answer += more
        if answer != b"\n":
            return fail(answer.decode(errors="replace").strip() or "the multiplexer ended")
        out = _socket.socket(fileno=1)
        fd = sock.fileno().to_bytes(4, sys.byteorder)
        out.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd)])
        out.detach()
    except OSError as problem:
        return fail(f"the multiplexer is gone: {problem.strerror}")
    return 0


def fail(text: str) -> int:
    sys.stderr.write(f"tsh: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

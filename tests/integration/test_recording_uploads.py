"""How recordings get from a host to the Auth Service, over the crashes of the one that uploads them (F21)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.seal import Signed
from pkgs.common.recording.writer import FileSink, RecordingWriter
from pkgs.common.sessions.recordings import Recorder
from tests.harness.wait import until
from tests.integration.auth_kit import Host, Kit, auth, downloaded, run, session, stored


def test_f21_a_crash_while_the_session_runs_uploads_what_was_written(short_tmp: Path) -> None:
    async def body(kit: Kit, host: Host) -> None:
        sid = await session(kit, host)
        part = folder(kit) / f"{sid}.part"
        write(part, sid, kit, host, whole=False)
        left = part.read_bytes()
        await upload_all(kit, host)
        assert await downloaded(kit.admin, sid) == left

    with_host(short_tmp, body)


def test_f21_a_crash_before_and_within_the_upload_sends_it_again(short_tmp: Path) -> None:
    async def body(kit: Kit, host: Host) -> None:
        path, data = await recorded(kit, host)
        cut = Cut(kit.as_host(host))
        async with uploading(kit, host, cut):
            await asyncio.wait_for(cut.begun.wait(), 10)
        # It died with the first bytes sent: nothing counts as uploaded, and the only copy is still here.
        assert path.read_bytes() == data
        await until(lambda: no_half_copy(kit))
        assert await stored(kit.admin, "session.upload") == []
        await upload_all(kit, host)
        assert await downloaded(kit.admin, path.stem) == data

    with_host(short_tmp, body)


def test_f21_a_crash_between_the_confirmation_and_the_deletion_uploads_nothing_twice(short_tmp: Path) -> None:
    async def body(kit: Kit, host: Host) -> None:
        path, data = await recorded(kit, host)
        await upload_all(kit, host)
        path.write_bytes(data)
        await upload_all(kit, host)
        assert await downloaded(kit.admin, path.stem) == data
        assert len(await stored(kit.admin, "session.upload")) == 1

    with_host(short_tmp, body)


def test_f21_a_damaged_file_is_set_aside_once_and_holds_up_nobody(short_tmp: Path) -> None:
    async def body(kit: Kit, host: Host) -> None:
        bad, good = await session(kit, host), await session(kit, host)
        (folder(kit) / f"{bad}.rec").write_bytes(b"\0" * 4096)
        write(folder(kit) / f"{good}.rec", good, kit, host)
        calls = Cut(kit.as_host(host), after=None)
        for _ in range(2):
            async with uploading(kit, host, calls):
                await until(lambda: not list(folder(kit).glob("*.rec")))
        assert [path.name for path in folder(kit).iterdir()] == [f"{bad}.bad"]
        assert calls.sessions == [good]

    with_host(short_tmp, body)


class Cut:
    """A host's client whose uploads stop after their first piece, or go through."""

    def __init__(self, client: Any, after: int | None = 1) -> None:
        self._client = client
        self._after = after
        self.begun = asyncio.Event()
        self.sessions: list[str] = []

    async def upload(self, request: Any, chunks: AsyncGenerator[bytes], **options: Any) -> Any:
        self.sessions.append(request.session_id)
        return await self._client.upload(request, self._cut(chunks), **options)

    async def _cut(self, source: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        async with aclosing(source):
            async for chunk in source:
                yield chunk[: len(chunk) // 2] if self._after is not None else chunk
                sent += 1
                if sent == self._after:
                    self.begun.set()
                    await asyncio.Event().wait()


def with_host(data_dir: Path, body: Callable[[Kit, Host], Awaitable[None]]) -> None:
    async def main() -> None:
        async with auth(data_dir) as kit:
            host = await kit.join()
            folder(kit).mkdir(mode=0o700)
            await body(kit, host)

    run(main)


def folder(kit: Kit) -> Path:
    return kit.data_dir / "upload"


async def recorded(kit: Kit, host: Host) -> tuple[Path, bytes]:
    """A whole recording that waits to be uploaded; its file is named by its session."""
    sid = await session(kit, host)
    path = folder(kit) / f"{sid}.rec"
    write(path, sid, kit, host)
    return path, path.read_bytes()


async def upload_all(kit: Kit, host: Host) -> None:
    async with uploading(kit, host):
        await until(lambda: not list(folder(kit).iterdir()))


def no_half_copy(kit: Kit) -> bool:
    return not list((kit.data_dir / "recordings").glob("*.part"))


@asynccontextmanager
async def uploading(kit: Kit, host: Host, client: Any = None) -> AsyncIterator[None]:
    """An agent's uploader, from its start to its death."""
    recorder = Recorder(
        folder(kit),
        client or kit.as_host(host),
        lambda: "node",
        lambda: None,
        sealed_by(host),
        time.monotonic,
        logging.getLogger("test.uploads"),
    )
    recorder.start()
    try:
        yield
    finally:
        await recorder.close()


def sealed_by(host: Host) -> Callable[[bytes], Signed]:
    signer = SshSigner.load(host.ssh_key.private_pem)
    certificate = line_to_blob(host.certs.ssh_cert)
    return lambda message: Signed(certificate, signer.sign(message))


def write(path: Path, sid: str, kit: Kit, host: Host, *, whole: bool = True) -> None:
    """A recording of this host's, ended and signed or as a crash leaves it."""
    meta = SessionMeta(
        session_id=sid, cluster_name="alpha.example", user="mira", login="root", host_id=host.id,
        hostname="node-1", started=kit.clock.now(),
    )  # fmt: skip
    writer = RecordingWriter(FileSink(path), meta, now=0.0)
    for moment in range(4):
        writer.output(b"line %d\r\n" % moment * 2000, float(moment))
        writer.flush(float(moment), force=True)
    if whole:
        writer.finish(4.0, ended=kit.clock.now(), seal=sealed_by(host))
    else:
        writer.abandon()

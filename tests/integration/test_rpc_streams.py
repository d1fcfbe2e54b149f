"""Streams and uploads: credit both ways, ends, errors, and readers that stop reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pkgs.common.errors import NotFoundError, UnavailableError
from pkgs.common.rpc.limits import STREAM_WINDOW, UPLOAD_WINDOW
from tests.harness.wait import until
from tests.integration.rpc_kit import Collect, Echo, Numbers, cluster, run


def test_a_stream_from_end_to_end() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            for upto in (0, 1, STREAM_WINDOW - 1, STREAM_WINDOW, STREAM_WINDOW + 1, 1000):
                seen = [item.number async for item in client.stream(Numbers(upto=upto))]
                assert seen == list(range(upto))

    run(main)


def test_big_items() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            text = "x" * 500_000
            count = 0
            async for item in client.stream(Numbers(upto=60, text=text)):
                assert item.text == text
                count += 1
            assert count == 60

    run(main)


def test_an_error_ends_the_stream_after_its_items() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            seen = []
            with pytest.raises(NotFoundError):
                async for item in client.stream(Numbers(upto=100, fail_at=40)):
                    seen.append(item.number)
            assert seen == list(range(40))

    run(main)


def test_a_reader_that_stops_stops_the_sender() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            stream = client.stream(Numbers(upto=10**9))
            await anext(stream)
            await until(lambda: c.parts.produced == STREAM_WINDOW)
            for _ in range(20):
                await client.call(Echo(text="others go on"))
            assert c.parts.produced == STREAM_WINDOW
            await stream.aclose()  # type: ignore[attr-defined]
            await asyncio.wait_for(c.parts.stream_ended.wait(), 5)

    run(main)


def test_a_stream_ends_when_the_peer_goes() -> None:
    async def main() -> None:
        async with cluster() as c:
            async with c.client() as client:
                stream = client.stream(Numbers(upto=10**9))
                await anext(stream)
            await asyncio.wait_for(c.parts.stream_ended.wait(), 5)
            with pytest.raises(UnavailableError):
                async for _ in stream:
                    pass

    run(main)


def test_a_stream_has_a_deadline_if_it_wants() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            stream = client.stream(Numbers(upto=10**9), deadline_s=0.2)
            with pytest.raises(UnavailableError):
                async for _ in stream:
                    pass
            await asyncio.wait_for(c.parts.stream_ended.wait(), 5)

    run(main)


async def endless(sent: list[int]) -> AsyncIterator[bytes]:
    while True:
        sent.append(1)
        yield b"x" * 100_000


def test_an_upload_stops_when_the_handler_does_not_read() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            sent: list[int] = []
            task = asyncio.create_task(client.upload(Collect(stop_after=-2), endless(sent)))
            await until(lambda: c.parts.collected == 1)
            for _ in range(20):
                await client.call(Echo(text="others go on"))
            # The window, one chunk read and not granted anew, one in the sender's hand.
            assert len(sent) <= UPLOAD_WINDOW + 2
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(main)


def test_an_answer_before_the_end_stops_the_upload() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            sent: list[int] = []
            answer = await client.upload(Collect(stop_after=250_000), endless(sent))
            assert answer.number == 300_000
            assert (await client.call(Echo(text="still"))).text == "still"

    run(main)


def test_uploads_arrive_whole() -> None:
    async def main() -> None:
        async def some(count: int, size: int) -> AsyncIterator[bytes]:
            for _ in range(count):
                yield b"x" * size

        async with cluster() as c, c.client() as client:
            for count, size in ((0, 0), (1, 1), (3, 300_000), (200, 1000), (40, 700_000)):
                assert (await client.upload(Collect(), some(count, size))).number == count * size

    run(main)


def test_the_source_of_an_upload_may_fail() -> None:
    async def main() -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"x"
            raise ValueError("no more")

        async with cluster() as c, c.client() as client:
            with pytest.raises(ValueError, match="no more"):
                await client.upload(Collect(), failing())
            assert (await client.call(Echo(text="still"))).text == "still"

    run(main)


def test_a_deadline_ends_the_stream_and_not_its_reader() -> None:
    async def main() -> None:
        async with cluster() as c, c.client() as client:
            stream = client.stream(Numbers(upto=STREAM_WINDOW * 2), deadline_s=0.05)
            await anext(stream)
            await asyncio.sleep(0.2)  # the reader is at work elsewhere when the deadline passes
            with pytest.raises(UnavailableError):
                async for _ in stream:
                    pass

    run(main)


def test_an_upload_whose_source_is_quiet_notices_that_the_connection_is_gone() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def quiet() -> AsyncIterator[bytes]:
            try:
                yield b"x"
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with cluster() as c, c.client() as client:
            task = asyncio.create_task(client.upload(Collect(), quiet()))
            await until(lambda: c.parts.collected == 1)
            c.server.drop(lambda caller: True)
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(task, 5)
            assert ended.is_set()
            answered = asyncio.create_task(client.upload(Collect(stop_after=1), quiet()))
            assert (await asyncio.wait_for(answered, 5)).number == 1

    run(main)

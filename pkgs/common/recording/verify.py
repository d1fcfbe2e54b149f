"""Whether a recording is what its host wrote: whole, in order, and signed at its end (attack A62)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from pkgs.common.errors import TrustError
from pkgs.common.pki.sshcert import verify_host_signature
from pkgs.common.pki.trust import Trust
from pkgs.common.recording.decoder import Decoder
from pkgs.common.recording.model import Damage, Footer, SessionMeta
from pkgs.common.recording.seal import message

State = Literal["verified", "unsigned", "cut", "damaged", "forged", "unreadable"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is certain about a recording. Only `verified` is a yes."""

    state: State
    """`unsigned`: whole, but nobody vouches for it. `cut`: it ends early, as after a crash, and nothing
    before that is amiss. `damaged`: some bytes are not what was written. `forged`: its signature does not
    hold. `unreadable`: it is not there, or nobody here can open it."""
    problem: str = ""
    session_id: str = ""
    host_id: str = ""
    user: str = ""
    frames: int = 0
    """Whole frames that follow one from the other, from the first on."""
    ended: float = 0.0
    """Unix seconds; 0 when it has no end."""


def verify(chunks: Iterable[bytes], trust: Trust, *, session_id: str = "") -> Verdict:
    """Go through all of a recording, in bounded memory. `session_id` is the session that it must be of."""
    decoder = Decoder()
    meta: SessionMeta | None = None
    footer: Footer | None = None
    damage: Damage | None = None
    cut = False

    def take(items: Iterable[object]) -> None:
        nonlocal meta, footer, damage, cut
        for item in items:
            if isinstance(item, SessionMeta):
                meta = item
            elif isinstance(item, Footer):
                footer = item
            elif isinstance(item, Damage):
                cut = cut or item.cut
                damage = damage or item

    for chunk in chunks:
        take(decoder.feed(chunk))
    take(decoder.finish())

    def verdict(state: State, problem: str = "") -> Verdict:
        return Verdict(
            state=state,
            problem=problem,
            session_id=meta.session_id if meta else "",
            host_id=meta.host_id if meta else "",
            user=meta.user if meta else "",
            frames=decoder.chained,
            ended=footer.ended if footer else 0.0,
        )

    if damage is not None and not damage.cut:
        return verdict("damaged", f"{damage.problem} (at byte {damage.offset})")
    if meta is None:
        return verdict("damaged", "it has no metadata")
    if session_id and meta.session_id != session_id:
        return verdict("forged", "it is the recording of another session")
    if cut or footer is None:
        return verdict("cut", "it ends without its footer")
    if footer.frames != decoder.chained - 1:
        return verdict("damaged", "the footer counts other frames than there are")
    if not footer.signature:
        return verdict("unsigned", "its end is not signed")
    try:
        verify_host_signature(
            footer.certificate,
            footer.signature,
            message(decoder.chain_before_end, footer),
            trust=trust,
            names=[meta.host_id],
            now=footer.ended,
        )
    except TrustError as problem:
        return verdict("forged", f"{problem.message}" + (f" ({problem.detail})" if problem.detail else ""))
    return verdict("verified")

"""PAM for a session, by libpam itself: account and session modules, as root, before the process is the user.

    start -> account -> credentials -> session open --(the process ends)--> session closed, by a small process

Nobody is asked anything: a module that wants an answer fails. What modules say is kept for the user. Limits,
groups and the like that modules set are set in this process, and its session's commands inherit them.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pkgs.agents.ssh.limits import MAX_PAM_ENV, MAX_PAM_TEXT
from pkgs.common.output.sanitize import inert

_LIBRARY = "libpam.so.0"
_SUCCESS, _BUF_ERR, _CONV_ERR = 0, 5, 19
_NEW_AUTHTOK_REQD = 12
_TTY, _RHOST = 3, 4
_ESTABLISH, _DELETE = 2, 4
_PROMPTS = (1, 2)
_ERROR_MSG, _TEXT_INFO = 3, 4


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_CONVERSE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)),
    ctypes.c_void_p,
)


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _CONVERSE), ("data", ctypes.c_void_p))


class PamRefusedError(LookupError):
    """A module said no, or PAM does not work here. The text is for the user."""


@dataclass(slots=True)
class PamSession:
    """Open until the process that holds `alive` is gone."""

    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """What modules told the user, each a text of its own."""
    alive: int = -1


def open_session(service: str, login: str, *, client: str, facts: Mapping[str, str]) -> PamSession:
    """Runs the modules of this service for a login whose groups are set already. `facts` are variables that
    modules see. Raises PamRefusedError."""
    before = _descriptors()
    library, libc = _load()
    session = PamSession()

    def converse(count: int, messages: Any, responses: Any, _: Any) -> int:
        for index in range(count):
            message = messages[index].contents
            if message.style in _PROMPTS:
                return _CONV_ERR
            text = (message.text or b"").decode(errors="replace").rstrip("\n")
            if len(session.said) < MAX_PAM_ENV and text:
                session.said.append("\n".join(inert(line) for line in text[:MAX_PAM_TEXT].splitlines()))
        answers = libc.calloc(count, ctypes.sizeof(_Response))
        if not answers:
            return _BUF_ERR
        responses[0] = ctypes.cast(answers, ctypes.POINTER(_Response))
        return _SUCCESS

    conversation = _Conversation(_CONVERSE(converse), None)
    handle = ctypes.c_void_p()
    code = library.pam_start(
        service.encode(), login.encode(), ctypes.byref(conversation), ctypes.byref(handle)
    )
    if code != _SUCCESS:
        raise PamRefusedError("PAM cannot be started on this host")

    def must(what: str, code: int) -> None:
        if code != _SUCCESS:
            told = library.pam_strerror(handle, code).decode(errors="replace")
            library.pam_end(handle, code)
            raise PamRefusedError("\n".join([*session.said, f"{what} ({inert(told)})"]))

    must("PAM is not ready", library.pam_set_item(handle, _TTY, b"ssh"))
    must("PAM is not ready", library.pam_set_item(handle, _RHOST, client.encode()))
    for name, value in facts.items():
        must("PAM is not ready", library.pam_putenv(handle, f"{name}={value}".encode()))
    code = library.pam_acct_mgmt(handle, 0)
    if code == _NEW_AUTHTOK_REQD:
        session.said.append("the password of this account has expired")
    must("the account may not be used now", code)
    must("the account's credentials are not set", library.pam_setcred(handle, _ESTABLISH))
    must("the session is refused", library.pam_open_session(handle, 0))
    session.environment = _environment(library, libc, handle)
    session.alive = _close_at_the_end(library, handle, before)
    return session


def _environment(library: Any, libc: Any, handle: ctypes.c_void_p) -> dict[str, str]:
    found: dict[str, str] = {}
    entries = library.pam_getenvlist(handle)
    index = 0
    while entries and entries[index]:
        name, equals, value = ctypes.string_at(entries[index]).decode(errors="replace").partition("=")
        if equals and name and len(found) < MAX_PAM_ENV:
            found[name] = value
        libc.free(entries[index])
        index += 1
    libc.free(ctypes.cast(entries, ctypes.c_void_p))
    return found


def _close_at_the_end(library: Any, handle: ctypes.c_void_p, before: set[int]) -> int:
    """A process that stays root and does one thing: to close the session when this process is gone. It has
    none of the descriptors that were here before PAM was. The end of a pipe, for this process to keep."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(reading)
        return writing
    try:
        for which in (signal.SIGHUP, signal.SIGINT):
            signal.signal(which, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for fd in {*before, writing} - {0, 1, 2, reading}:
            with suppress(OSError):
                os.close(fd)
        os.read(reading, 1)
        library.pam_setcred(handle, _DELETE)
        library.pam_close_session(handle, 0)
        library.pam_end(handle, _SUCCESS)
    finally:
        os._exit(0)


def _descriptors() -> set[int]:
    """Those that are open, without the one that the listing itself had for a moment."""
    found = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    return {fd for fd in found if Path(f"/proc/self/fd/{fd}").is_symlink()}


def _load() -> tuple[Any, Any]:
    try:
        library, libc = ctypes.CDLL(_LIBRARY), ctypes.CDLL(None)
    except OSError:
        raise PamRefusedError("PAM is asked for, and its library is not on this host") from None
    library.pam_strerror.restype = ctypes.c_char_p
    library.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_void_p)
    for name in ("pam_set_item", "pam_putenv", "pam_acct_mgmt", "pam_setcred", "pam_open_session"):
        getattr(library, name).restype = ctypes.c_int
    libc.calloc.restype, libc.calloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    return library, libc

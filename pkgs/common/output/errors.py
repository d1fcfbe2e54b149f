"""How a command line ends: exit 0, 1 or 2, one `ERROR:` line, never a traceback (`-d` shows it)."""

from __future__ import annotations

import os
import sys

from pkgs.common.errors import AccessError
from pkgs.common.output.limits import MAX_ERROR_CHARS
from pkgs.common.output.sanitize import inert_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Callable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def run(body: Callable[[], int | None], *, debug: bool = False) -> int:
    """Run a command's body and turn whatever ends it into an exit status."""
    try:
        status = body() or EXIT_OK
        sys.stdout.flush()
        return status
    except AccessError as error:
        fail(str(error))
        if debug:
            _show(error)
        return error.exit_status
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): its choice, no error. Point standard output
        # elsewhere so that the interpreter's own flush at exit does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        if debug:
            _show(error)
        return EXIT_FAILED
    except Exception as error:
        # The one boundary of the process: a bug ends as one line too.
        fail(f"internal error ({type(error).__name__}); run again with --debug for the details")
        if debug:
            _show(error)
        return EXIT_FAILED


def fail(message: str) -> None:
    """Print an error the way scripts and people know it."""
    if len(message) > MAX_ERROR_CHARS:
        message = message[:MAX_ERROR_CHARS] + "... (cut)"
    sys.stderr.write(f"ERROR: {inert_lines(message)}\n")
    sys.stderr.flush()


def _show(error: BaseException) -> None:
    import traceback

    detail = getattr(error, "detail", "")
    if detail:
        sys.stderr.write(f"DETAIL: {inert_lines(detail)}\n")
    traceback.print_exception(error, file=sys.stderr)

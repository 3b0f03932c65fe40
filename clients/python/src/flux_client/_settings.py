"""What a client is told when it is made, and what it makes of that."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True)
class Settings:
    url: str
    # Not shown: it holds the token.
    headers: dict[str, str] = field(repr=False)
    source: str
    tls: ssl.SSLContext | None


def _default_source() -> str:
    """The program and the host, the same after a restart.

    The source is part of an event's content, and what a program publishes again must be the same.
    """
    program = os.path.basename(sys.argv[0]) or "python"
    name = f"{program[:50]}@{socket.gethostname()[:200]}"
    return name.encode("ascii", "replace").decode()


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        # Most of these errors name no file.
        raise ValueError(f"no certificates can be read from {ca_file!r}: {error}") from error


def _parts(url: str) -> SplitResult:
    # The message shows no password that somebody may have put there.
    wrong = ValueError("the URL of a server is one of http or https, and has no user or query")
    # `urlsplit` passes over some of these.
    if any(character <= " " or character == "\x7f" or character in "?#@" for character in url):
        raise wrong
    try:
        parts = urlsplit(url)
        parts.port  # Raises if it is none.
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    return parts


def settings(
    url: str | None, token: str | None, source: str | None, ca_file: str | None
) -> Settings:
    """Fills in what was not given: from FLUX_URL, FLUX_TOKEN and FLUX_CA_FILE, else the defaults."""
    url = (url or os.environ.get("FLUX_URL") or "http://localhost:3000").rstrip("/")
    parts = _parts(url)
    token = token or os.environ.get("FLUX_TOKEN")
    # Such as the end of the line of the file that it was read from.
    if token and not all("!" <= character <= "~" for character in token):
        raise ValueError("the token holds characters that no token has")
    ca_file = ca_file or os.environ.get("FLUX_CA_FILE")
    return Settings(
        url,
        {"authorization": f"Bearer {token}"} if token else {},
        source or _default_source(),
        _tls(ca_file) if parts.scheme == "https" else None,
    )

"""A server with a certificate of a private authority, which `ca_file` or FLUX_CA_FILE names."""

from __future__ import annotations

import asyncio
import shutil
import time
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server

from flux_client import AsyncFlux, Change, Flux, NewEvent, Snapshot, UnreachableError

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="NOT CHECKED: no openssl")


def make(folder: Path, name: str, *options: str) -> None:
    """A key and a certificate, signed by itself or as the options say."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
    command = ["openssl", "req", "-x509", *curve, *files, *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


class TlsServer(Server):
    def wait_until_ready(self) -> None:
        """Not by plain HTTP: its clients wait."""


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str, str]]:
    """A server, its address, and the file of its authority."""
    make(tmp_path, "authority", "-addext", "keyUsage=critical,keyCertSign")
    make(
        tmp_path,
        "server",
        *("-CA", "authority.pem", "-CAkey", "authority.key"),
        *("-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"),
    )
    monkeypatch.setenv("FLUX_TLS_CERT_FILE", str(tmp_path / "server.pem"))
    monkeypatch.setenv("FLUX_TLS_KEY_FILE", str(tmp_path / "server.key"))
    server = TlsServer()
    yield server, f"https://localhost:{server.port}", str(tmp_path / "authority.pem")
    server.remove()


def test_calls_watches_and_leases_work_over_tls(tls: tuple[Server, str, str]) -> None:
    server, url, authority = tls
    with Flux(url, ca_file=authority) as flux, flux.watch("tls/*") as watch:
        assert isinstance(next(watch), Snapshot)
        flux.publish_many([NewEvent("tls/a", {"n": 1}), NewEvent("tls/b", {"n": 2})])
        assert {entity.id for entity in flux.list(prefix="tls/")} == {"tls/a", "tls/b"}
        changed = [next(watch), next(watch)]
        assert [it.entity.id for it in changed if isinstance(it, Change)] == ["tls/a", "tls/b"]
        # Connections that are made again check the certificate again.
        server.kill()
        server.start()
        with flux.lease("tls/lease", ttl=5) as lease:
            assert lease.held
        flux.publish("tls/last", {})
        while "tls/last" not in watch.entities:
            next(watch)


def test_calls_and_watches_of_asyncio_work_over_tls(
    tls: tuple[Server, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, authority = tls
    monkeypatch.setenv("FLUX_CA_FILE", authority)

    async def run() -> None:
        async with AsyncFlux(url) as flux, flux.watch("tls/*") as watch:
            assert isinstance(await anext(watch), Snapshot)
            await flux.publish("tls/a", {"n": 1})
            assert isinstance(await anext(watch), Change)
            assert (await flux.lease("tls/lease").claim()) is True

    asyncio.run(run())


def test_a_certificate_of_an_unknown_authority_is_refused(tls: tuple[Server, str, str]) -> None:
    _, url, authority = tls
    # No waiting would help, so no time is spent on it.
    began = time.monotonic()
    with Flux(url, retry_for=600) as flux:
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            flux.get("tls/a")
        # A watch would try for ever.
        with pytest.raises(UnreachableError, match="not trusted"), flux.watch("tls/*"):
            pass
    # The certificate is for another name.
    with Flux(url.replace("localhost", "127.0.0.1"), ca_file=authority, retry_for=600) as flux:
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            flux.get("tls/a")
    assert time.monotonic() - began < 300

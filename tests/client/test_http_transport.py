"""Addresses, proxies and certificates: what stands between an agent and a relay before a byte is sent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from anporia_client import Agent, BadAddress, ProxyTrouble, RelayUnreachable
from tests.client.scripted import Honest, Scripted
from tests.wire.samples import ALICE

PASSWORD = "correct horse"


def test_a_password_in_the_clear_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for url in ("https://relay.test", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080"):
            Agent(ALICE, url, auth=("ada", PASSWORD)).close()
        assert caplog.text == ""
        Agent(ALICE, "http://relay.test", auth=("ada", PASSWORD)).close()
    assert "unencrypted" in caplog.text and PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.test",
        "ftp://relay.test",
        "http://",
        f"http://ada:{PASSWORD}@relay.test",
        "http://r:port/",
        "http://r/?a=b",
        "onion:" + "a" * 56,
    ],
)
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        Agent(ALICE, url)
    assert PASSWORD not in str(caught.value)


def test_our_own_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    with Agent(ALICE, "http://127.0.0.1:1") as alice, pytest.raises(RelayUnreachable, match="refused"):
        alice.get_stats()


def test_a_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with Agent(ALICE, "https://relay.test") as alice, pytest.raises(ProxyTrouble, match="proxy"):
        alice.get_stats()
    for wrong in ("gopher://proxy.test", "http://[::1"):
        monkeypatch.setenv("HTTPS_PROXY", wrong)
        with pytest.raises(ProxyTrouble, match="HTTPS_PROXY"):
            Agent(ALICE, "https://relay.test")


def test_a_certificate_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no-such.pem"))
    with pytest.raises(BadAddress, match="SSL_CERT_FILE"):
        Agent(ALICE, "https://relay.test")


def test_a_package_may_bring_a_transport_for_its_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider:
        blocking = staticmethod(Scripted(Honest()))

    class Found:
        @staticmethod
        def load() -> type[Provider]:
            return Provider

    asked: list[dict[str, str]] = []

    def entry_points(**wanted: str) -> list[type[Found]]:
        asked.append(wanted)
        return [Found]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert Agent(ALICE, "onion:abc").post("hi")["accepted"]
    assert asked == [{"group": "anporia.transports", "name": "onion"}]

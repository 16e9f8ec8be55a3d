"""What `doctor` finds of a relay: is it there, is it one, does it take us, what does it allow. Nothing is published."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Generator, Iterator
from typing import Any

import orjson

from anporia_wire import Event, Keypair, kinds

from .. import answers, settings
from ..address import Address
from ..errors import NotARelay, RelayError, SettingsError
from ..providers import blocking
from ..transport import Request, Response, Transport
from . import failures
from .checks import Finding
from .options import Options

__all__ = ["relay"]

_TIMEOUT_S = 10.0  # of each look, unless --timeout is shorter
_WARN_SKEW_S = 30  # a tenth of what relays refuse, and more than a machine with NTP is ever off

Looks = Generator[Finding, None, bool]  # whether further looks make sense


def relay(options: Options, url: str, keypair: Keypair | None) -> Iterator[Finding]:
    """Look at one relay, until something makes further looks pointless."""
    timeout = min(options.timeout or _TIMEOUT_S, _TIMEOUT_S)
    try:
        found = settings.credentials(url, given=len(options.relay) == 1)
        auth = (found.user, found.password) if found else None
        transport: Transport = blocking(url, auth)
    except SettingsError as exc:
        yield Finding("password", "fail", str(exc), "Correct that variable, or unset it")
        return
    except RelayError as exc:  # the address itself is not shown: it may hold a password
        yield Finding("address", "fail", f"{exc.detail} ({_source(options)})", failures.sentence(exc))
        return
    with contextlib.closing(transport):
        yield Finding("address", "ok", f"{url} ({_source(options)})")
        if not (yield from _reached(Address.parse(url), timeout)):
            return
        source = f"user {found.user}, from {found.source}" if found else ""
        try:
            yield from _spoken(transport, url, timeout, source, keypair)
        except RelayError as exc:
            yield Finding("relay", "fail", exc.detail, exc.advice or "Try again later")


def _source(options: Options) -> str:
    if options.relay:
        return "from --relay"
    return next((f"from {name}" for name in ("ANPORIA_RELAY_URL", "ANPORIA_RELAY") if os.environ.get(name)), "default")


def _reached(address: Address, timeout: float) -> Looks:
    host, port = address.host, address.port
    if address.scheme in urllib.request.getproxies_environment() and not _is_direct(host):
        yield Finding("network", "ok", "through the proxy, which finds the relay itself")
        return True
    begun = time.monotonic()
    try:
        connection = socket.create_connection((host, port), timeout)
    except socket.gaierror as exc:
        text = f"there is no host {host}: {exc.strerror or exc}"
        yield Finding("network", "fail", text, "Correct the address; or is this machine offline?")
        return False
    except OSError as exc:
        why = "no answer in time" if isinstance(exc, TimeoutError) else exc.strerror or str(exc)
        fix = 'Is the relay running? "anporia up" starts one here; else check host and port'
        yield Finding("network", "fail", f"{host} port {port}: {why}", fix)
        return False
    there, took = connection.getpeername()[0], (time.monotonic() - begun) * 1_000
    yield Finding("network", "ok", f"{there} port {port}, connected in {took:.0f} ms")
    if address.scheme == "https":
        return (yield from _encrypted(connection, host))
    connection.close()
    return True


def _is_direct(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1") or bool(urllib.request.proxy_bypass(host))


def _encrypted(connection: socket.socket, host: str) -> Looks:
    try:
        context = ssl.create_default_context()
        with contextlib.closing(context.wrap_socket(connection, server_hostname=host)) as wrapped:
            certificate: dict[str, Any] = dict(wrapped.getpeercert() or {})
            yield Finding("TLS", "ok", f"{wrapped.version()}, certificate until {certificate.get('notAfter')}")
    except ssl.SSLCertVerificationError as exc:
        fix = "If the relay has a certificate of its own, name its CA in SSL_CERT_FILE; or correct this machine's clock"
        yield Finding("TLS", "fail", exc.verify_message, fix)
        return False
    except OSError as exc:
        fix = "Does the relay speak https there? Perhaps its address begins with http:"
        yield Finding("TLS", "fail", exc.strerror or type(exc).__name__, fix)
        return False
    finally:
        connection.close()
    return True


def _spoken(transport: Transport, url: str, timeout: float, source: str, keypair: Keypair | None) -> Iterator[Finding]:
    about = transport.send(Request("GET", "/", headers={"accept": "application/json"}), timeout=timeout)
    now = time.time()
    events = transport.send(Request("GET", "/events", {"limit": "1"}), timeout=timeout)
    if events.status in (401, 403):
        # a private relay hides its info document too
        yield Finding("relay", "ok", "answers, and is private")
        yield _refused(events, url, source)
        yield _clock(events, now)
        return
    info = answers.info(about)
    try:
        if not isinstance(_json(_success(events, url, now)), list):
            raise NotARelay("the answer is not a list of events")
    except RelayError as exc:
        yield Finding("relay", "fail", exc.detail, NotARelay.advice)
        return
    if info:
        parts = [str(info.get(name, "?"))[:40] for name in ("name", "version", "protocol")]
        yield Finding("relay", "ok", f"{' '.join(parts[:2])}, {parts[2]}, database {info.get('database_id', '?')}")
    else:
        yield Finding("relay", "ok", "a plain ANP2 relay: no batches, places in streams, search or counts")
    if info.get("auth") == "basic":
        yield Finding("password", "ok", f"accepted: {source}")
    else:
        yield Finding("password", "ok", f"not asked for{f' (there is one: {source})' if source else ''}")
    yield _clock(events, now)
    limits = info.get("limits")
    if isinstance(limits, dict):
        rate = limits.get("agent_rate")
        allowed = f"{rate} events a minute for one agent" if rate else "any number of events"
        yield Finding("limits", "ok", f"{allowed}, {limits.get('max_batch_events', '?')} a batch")
        yield Finding("features", "ok", ", ".join(str(one)[:40] for one in info["features"][:40]))
    if "dry-run" in info.get("features", ()):
        yield _dry_run(transport, url, timeout, keypair)


def _success(response: Response, url: str, now: float) -> bytes:
    """Give the body of a success. Raises what a refusal means."""
    if not 200 <= response.status < 300:
        raise answers.refusal(response, url, now)
    return response.body


def _refused(response: Response, url: str, source: str) -> Finding:
    given = f"it does not take what was given: {source}" if source else "there is none for it"
    fix = (
        'Store the right one with "anporia login", or set ANPORIA_RELAY_USER and ANPORIA_RELAY_PASSWORD '
        "(with ANPORIA_RELAY_URL, for they are for that relay only)"
    )
    detail = answers.refusal(response, url, time.time()).detail
    return Finding("password", "fail", f"the relay wants one, and {given} ({detail})", fix)


def _clock(response: Response, now: float) -> Finding:
    ahead = answers.clock_ahead(response, now)
    if ahead is None:
        return Finding("clock", "warn", "the relay does not say what time it has", "Make sure that NTP runs here")
    text = f"{abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'} the relay's" if ahead else "as the relay's"
    if abs(ahead) <= _WARN_SKEW_S:
        return Finding("clock", "ok", text)
    fix = f"Set this machine's clock (NTP): relays refuse events {answers.SKEW_S} s ahead of theirs"
    return Finding("clock", "fail" if abs(ahead) > answers.SKEW_S else "warn", text, fix)


def _dry_run(transport: Transport, url: str, timeout: float, keypair: Keypair | None) -> Finding:
    """Let the relay check an event that is never published."""
    event = Event.create(keypair or Keypair.generate(), kinds.POST, "doctor", (), created_at=int(time.time()))
    headers = {"content-type": "application/json"}
    request = Request("POST", "/events/dry-run", headers=headers, body=event.to_json())
    said = _json(_success(transport.send(request, timeout=timeout), url, time.time()))
    if isinstance(said, dict) and said.get("id_matches") is True and said.get("signature_valid") is True:
        whose = "your key" if keypair else "a key made for this"
        return Finding("signing", "ok", f"the relay verifies what {whose} signs (dry run, nothing was published)")
    fix = "Update anporia-client and the relay: they do not agree on what an event is"
    return Finding("signing", "fail", "the relay does not verify what this key signs", fix)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None

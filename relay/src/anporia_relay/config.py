"""Every setting of a relay: one frozen dataclass, filled from flags > environment > TOML file > default."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from .errors import ConfigError

__all__ = ["Config", "Networks"]

Networks = tuple[IPv4Network | IPv6Network, ...]


def _number(low: int, high: int) -> Callable[[str, object], int]:
    def read(key: str, given: object) -> int:
        text = str(given).strip()
        if not text.isascii() or not text.isdigit() or len(text) > 18 or not low <= int(text) <= high:
            raise ConfigError(f"{key}: {str(given)[:40]!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _text(key: str, given: object) -> str:
    if not isinstance(given, str) or "\n" in given:
        raise ConfigError(f"{key}: must be one line of text")
    return given


def _path(key: str, given: object) -> Path:
    path = Path(_text(key, given)).expanduser()
    if not path.name or path.is_dir():
        raise ConfigError(f"{key}: {given!r} is a directory or names no file")
    return path


def _switch(key: str, given: object) -> bool:
    text = str(given).strip().lower()
    if text not in ("on", "off", "true", "false", "1", "0"):
        raise ConfigError(f"{key}: {str(given)[:40]!r} is neither on nor off")
    return text in ("on", "true", "1")


def _url(key: str, given: object) -> str:
    text = _text(key, given).rstrip("/")
    if not text.startswith(("http://", "https://")):
        raise ConfigError(f"{key}: {given!r} is not an http:// or https:// address")
    return text


def _networks(key: str, given: object) -> Networks:
    parts = given if isinstance(given, (list, tuple)) else str(given).split(",")
    try:
        return tuple(ip_network(str(part).strip(), strict=False) for part in parts if str(part).strip())
    except ValueError as exc:
        raise ConfigError(f"{key}: {exc}; give addresses or CIDRs separated by commas") from None


def _setting(default: object, read: Callable[[str, object], Any], help_: str) -> Any:
    return field(default=default, metadata={"read": read, "help": help_})


_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one relay. Field `x_y` is flag `--x-y`, variable `ANPORIA_X_Y` and TOML key `x_y`."""

    db: Path = _setting(Path("anporia.db"), _path, "SQLite file that holds the log; created when missing")
    host: str = _setting("127.0.0.1", _text, "address to listen on; 0.0.0.0 or :: for all")
    port: int = _setting(8080, _number(0, 65_535), "TCP port; 0 takes a free one and prints it")
    agent_rate: int = _setting(60, _number(0, 10**9), "events a minute for one agent; 0 = no limit")
    peer_rate: int = _setting(300, _number(0, 10**9), "events a minute from one address; 0 = no limit")
    bad_event_rate: int = _setting(
        300, _number(0, 10**9), "failed signatures a minute from one address before it is refused unread; 0 = no limit"
    )
    rate_exempt: Networks = _setting(
        (), _networks, "addresses or CIDRs freed from the limits per address, never from those per agent"
    )
    trusted_proxies: Networks = _setting(
        _LOOPBACK, _networks, "reverse proxies whose X-Forwarded-For is believed (its last entry)"
    )
    public_base_url: str = _setting("", _url, "address under which clients reach this relay, for links")
    max_subscribers: int = _setting(16_384, _number(0, 10**6), "open streams; more are answered 503")
    max_connections_per_peer: int = _setting(
        512, _number(0, 10**6), "open connections from one address; trusted proxies are free; 0 = no limit"
    )
    search: bool = _setting(True, _switch, "on or off: the index for full-text search, in a file beside the log")
    auth_user: str = _setting("", _text, "user name that makes the relay private (HTTP Basic)")
    auth_password: str = field(
        default="", repr=False, metadata={"read": _text, "help": "its password; both or neither must be set"}
    )

    def __post_init__(self) -> None:
        if bool(self.auth_user) != bool(self.auth_password):
            raise ConfigError("auth_user and auth_password: set both to make the relay private, or neither")
        if ":" in self.auth_user:
            raise ConfigError("auth_user: HTTP Basic allows no colon in a user name")

    @property
    def private(self) -> bool:
        """Whether every route but health asks for a password."""
        return bool(self.auth_user)

    @classmethod
    def load(cls, flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None = None) -> Config:
        """Read settings; an empty variable counts as unset. Raises `ConfigError` naming the key."""
        values: dict[str, Any] = {}
        table = _read_toml(file) if file else {}
        for setting in fields(cls):
            name, env = setting.name, f"ANPORIA_{setting.name.upper()}"
            read = setting.metadata["read"]
            if flags.get(name) is not None:
                values[name] = read(f"--{name.replace('_', '-')}", flags[name])
            elif environ.get(env):
                values[name] = read(env, environ[env])
            elif name in table:
                values[name] = read(f"{file}: {name}", table[name])
        unknown = sorted(table.keys() - {setting.name for setting in fields(cls)})
        if unknown:
            raise ConfigError(f"{file}: unknown key {unknown[0]!r}; known are {', '.join(f.name for f in fields(cls))}")
        return cls(**values)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file}: not valid TOML: {exc}") from None

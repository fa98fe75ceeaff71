"""The settings of `keyferry run`: what they are called, what they may be, where they come from.

Each is a flag, a KEYFERRY_... variable and a key of the file given with --config, in this order;
click resolves them. Owns names, defaults and the meaning of their texts. It opens nothing but that
file and those for TLS; a wrong value is a click.UsageError, which `complaint` makes one line of.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from migrator.throttle import Level, Nice
from migrator.units import duration_ms, size_bytes
from proxy.endpoint import Endpoint, EndpointError
from proxy.tls import Renewed, TlsFileError, TlsFiles, server_context, to_store

# What TLS settings are called behind their prefix.
_TLS_PARTS = {"certificate": "cert", "key": "key", "ca": "ca"}
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Address:
    """HOST:PORT to listen on. Port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost is not trusted."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class Settings:
    """All settings, checked. Sizes are bytes, durations as their names say."""

    source: Endpoint
    target: Endpoint
    listen: Address
    admin: Address
    admin_token: str | None = field(repr=False)
    state: Path
    log_level: str
    max_clients: int
    client_output_limit: int
    clients_memory_limit: int
    mirror_buffer_bytes: int
    unproven_limit: int
    max_lag_ms: float
    backfill_workers: int
    busy_poll_ms: float = 0.1
    allow_commands: tuple[str, ...] = ()
    nice: Nice = field(default_factory=Nice)
    tls: Renewed | None = None
    """What clients are served with; None: plain."""


class EndpointType(click.ParamType[Endpoint]):
    name = "url"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Endpoint:
        if isinstance(value, Endpoint):
            return value
        try:
            return Endpoint.parse(str(value), "")
        except EndpointError as error:
            self.fail(str(error).removeprefix(": "), param, ctx)


class AddressType(click.ParamType[Address]):
    """HOST:PORT, [V6]:PORT; a URL's `http://` and closing `/` do no harm."""

    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        text = str(value).removeprefix("http://").removesuffix("/")
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", text, re.ASCII)
        if match is None:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        port = int(match[3])
        if port > 65535:
            self.fail(f"{port} is not a port (0 to 65535)", param, ctx)
        return Address(match[1] or match[2], port)


class SizeType(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return size_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType[float]):
    """Milliseconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return duration_ms(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class CommandsType(click.ParamType[tuple[str, ...]]):
    """Names of refused commands, with commas between them; in the file also a list."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        from proxy.commands import CommandTable, NotAllowed  # no verb needs these

        words = value if isinstance(value, list | tuple) else str(value).split(",")
        names = tuple(name for name in (str(word).strip() for word in words) if name)
        table = CommandTable()
        for name in names:
            try:
                table.allow(name)
            except NotAllowed as error:
                self.fail(str(error), param, ctx)
        return names


def _read_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", ctx, param) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not TOML: {error}", ctx, param) from None
    known = {option.name: option for option in OPTIONS if option.expose_value and option.name}
    values = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; is it {near[0]}?" if near else ""
            raise click.BadParameter(f"{path}: there is no setting {key!r}{hint}", ctx, param)
        is_list = isinstance(known[name].type, CommandsType) and isinstance(value, list)
        if isinstance(value, bool) or not (isinstance(value, str | int | float) or is_list):
            raise click.BadParameter(f"{path}: {key} must be a text or a number", ctx, param)
        values[name] = value
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _option(name: str, kind: Any, help_: str, default: Any = None, **more: Any) -> click.Option:
    if default is not None:  # to click, None would be a default as any other
        more |= {"default": default, "show_default": True}
    return click.Option(
        [_flag(name), name],
        type=kind,
        help=help_,
        envvar=f"KEYFERRY_{name.upper()}",
        **more,
    )


def _file(name: str, help_: str) -> click.Option:
    return _option(name, click.Path(path_type=Path), help_, metavar="FILE")


def _store_tls(side: str) -> tuple[click.Option, ...]:
    return (
        _file(
            f"{side}_tls_ca", f"Who may have signed the {side}'s certificate; else the system's."
        ),
        _file(f"{side}_tls_cert", f"Keyferry's certificate for the {side}, if it wants one."),
        _file(f"{side}_tls_key", "The key of that certificate."),
        _option(
            f"{side}_tls_name",
            str,
            f"The name in the {side}'s certificate, if it is not the URL's host.",
            metavar="NAME",
        ),
    )


_POSITIVE = click.IntRange(min=1)

# The parameters of `keyferry run`; their values make Settings by `checked`.
OPTIONS: tuple[click.Option, ...] = (
    click.Option(
        ["--config", "config"],
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="KEYFERRY_CONFIG",
        help="A TOML file with settings, named as the flags are.",
        is_eager=True,
        expose_value=False,
        callback=_read_file,
        metavar="FILE",
    ),
    _option("source", EndpointType(), "The store to move from.", required=True, metavar="URL"),
    _option("target", EndpointType(), "The store to move to.", required=True, metavar="URL"),
    _option("listen", AddressType(), "Where applications connect.", "127.0.0.1:6380"),
    _file("tls_cert", "Serve applications with TLS: the certificate, its chain behind it."),
    _file("tls_key", "The key of that certificate."),
    _file("tls_client_ca", "Who must have signed the certificates of applications."),
    *_store_tls("source"),
    *_store_tls("target"),
    _option("admin", AddressType(), "HTTP API, metrics and dashboard.", "127.0.0.1:9400"),
    _option("admin_token", str, "What admin requests must carry.", metavar="TOKEN"),
    _option(
        "state",
        click.Path(path_type=Path, file_okay=False),
        "What must outlive a restart.",
        "./keyferry-state",
        metavar="DIR",
    ),
    _option("log_level", click.Choice(LOG_LEVELS), "How much is logged.", "info"),
    _option("max_clients", _POSITIVE, "Applications' connections at once.", 10_000),
    _option(
        "client_output_limit", SizeType(), "Replies that a client may leave unread.", "256mb"
    ),
    _option(
        "clients_memory_limit",
        SizeType(),
        "What all clients together may leave unread or half sent; the largest go first.",
        "2gb",
    ),
    _option(
        "mirror_buffer_bytes",
        SizeType(),
        "Effects that wait for the other side; past it their keys are copied again.",
        "64mb",
    ),
    _option(
        "unproven_limit",
        _POSITIVE,
        "Keys that may await a copy; past it a new backfill is needed.",
        1_000_000,
    ),
    _option("max_lag", DurationType(), "The mirror's lag at which a flip is refused.", "1000ms"),
    _option("backfill_workers", click.IntRange(1, 64), "Copies at once.", 4),
    _option(
        "busy_poll",
        DurationType(),
        "Under dense traffic, how long to look for more before sleeping; 0: sleep at once.",
        "100us",
    ),
    _option(
        "nice",
        click.Choice([str(level) for level in Level]),
        "How far backfill and verify stand back for clients; `keyferry nice` changes it.",
        "normal",
    ),
    _option(
        "keys_per_second",
        click.IntRange(min=0),
        "At most so many keys are copied or compared; 0: any number.",
        0,
        metavar="N",
    ),
    _option(
        "allow_commands",
        CommandsType(),
        "Commands to serve that are refused otherwise, SAVE or CONFIG SET, say.",
        (),
        metavar="NAME,NAME",
    ),
)  # fmt: skip


def checked(values: dict[str, Any]) -> Settings:
    """Settings of the values of one command line. Raises click.UsageError."""
    values = dict(values)
    for side in ("source", "target"):
        values[side] = _with_tls(values, side)
    values["tls"] = _served_with(values)
    nice = Nice(Level(values.pop("nice")), values.pop("keys_per_second") or None)
    settings = Settings(
        max_lag_ms=values.pop("max_lag"),
        busy_poll_ms=values.pop("busy_poll"),
        nice=nice,
        **values,
    )
    if settings.source.address == settings.target.address:
        raise _wrong("target", "it is the source")
    if settings.admin_token is not None and not re.fullmatch(r"[!-~]+", settings.admin_token):
        raise _wrong("admin_token", "it must be of printable ASCII characters without spaces")
    if not settings.admin.is_loopback and settings.admin_token is None:
        raise _wrong("admin", f"{settings.admin} is not loopback, and needs --admin-token")
    if settings.admin == settings.listen and settings.admin.port:
        raise _wrong("admin", f"{settings.admin} is where applications connect (--listen)")
    return settings


def _tls_files(values: dict[str, Any], names: dict[str, str]) -> TlsFiles:
    """Takes the files out of `values`; `names` says which setting each part is."""
    given = {part: values.pop(name) for part, name in names.items()}
    for part, other in (("certificate", "key"), ("key", "certificate")):
        if given[part] is not None and given[other] is None:
            raise _wrong(names[other], f"it is required with {_flag(names[part])}")
    return TlsFiles(**given)


def _with_tls(values: dict[str, Any], side: str) -> Endpoint:
    """The endpoint of a side, with what its TLS settings say of it."""
    endpoint: Endpoint = values[side]
    names = {part: f"{side}_tls_{name}" for part, name in _TLS_PARTS.items()}
    given = [name for name in (*names.values(), f"{side}_tls_name") if values[name] is not None]
    if given and not endpoint.is_tls:
        raise _wrong(given[0], f"--{side} is a URL without TLS (rediss:// and valkeys:// have it)")
    files, tls_name = _tls_files(values, names), values.pop(f"{side}_tls_name")
    if endpoint.is_tls:
        with _names_the_setting(names):
            to_store(files)
    return replace(endpoint, tls=files, tls_name=tls_name)


def _served_with(values: dict[str, Any]) -> Renewed | None:
    """What clients are served with; None where no certificate is given."""
    names = {part: f"tls_{name}" for part, name in _TLS_PARTS.items()} | {"ca": "tls_client_ca"}
    files = _tls_files(values, names)
    if files.certificate is None:
        if files.ca is not None:
            raise _wrong("tls_cert", f"it is required with {_flag(names['ca'])}")
        return None
    with _names_the_setting(names):
        return Renewed(server_context, files)


@contextlib.contextmanager
def _names_the_setting(names: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except TlsFileError as error:
        raise _wrong(names[error.part], str(error)) from None


def _wrong(name: str, problem: str) -> click.BadParameter:
    ctx = click.get_current_context(silent=True)
    param = next(option for option in OPTIONS if option.name == name)
    return click.BadParameter(problem, ctx, param)


def complaint(error: click.UsageError) -> str:
    """One line that names the setting as the operator gave it: flag, variable or file."""
    param = getattr(error, "param", None)
    if param is None or not param.name:
        return error.format_message()
    if isinstance(error, click.MissingParameter):
        problem = "it is required"
        if param.param_type_name == "argument":
            return f"{param.make_metavar(error.ctx)}: {problem}" if error.ctx else problem
        return f"{param.opts[0]}: {problem} (or {param.envvar})"
    name = param.opts[0] if param.param_type_name == "option" else param.name.upper()
    origin = error.ctx.get_parameter_source(param.name) if error.ctx else None
    if origin is ParameterSource.ENVIRONMENT:
        name = f"{param.envvar} ({name})"
    elif origin is ParameterSource.DEFAULT_MAP:
        name = f"{param.name} in the file of --config ({name})"
    return f"{name}: {' '.join(error.message.split())}"

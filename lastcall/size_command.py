"""`lastcall size`: how many hosts and engines a load takes."""

from typing import Annotated

import msgspec
import typer

from lastcall.settings import Settings
from lastcall.settings_source import settings_or_exit
from lastcall.sizing import Load, Means, Sizing, size, warnings

_MINUTE = 120
"""Seconds from which minutes are easier to read."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="size")(_size)


def _size(
    *,
    connections: Annotated[int, typer.Option(min=1, help="Clients at the same time.")],
    publications: Annotated[float, typer.Option(min=0, help="A second, in all channels.")],
    channels: Annotated[int, typer.Option(min=1, help="That are heard at the same time.")],
    subscriptions: Annotated[float, typer.Option(min=0, help="Of each client.")] = 1,
    data: Annotated[int, typer.Option(min=0, help="Bytes of a publication.")] = 128,
    cores: Annotated[int, typer.Option(min=1, help="Of a host; a worker for each.")] = 4,
    memory: Annotated[float, typer.Option(min=0.25, help="GiB of a host.")] = 8,
    as_object: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Work out how many hosts a load takes, with these settings and what was measured."""
    settings = settings_or_exit(Settings)
    load = Load(
        connections=connections,
        publications=publications,
        channels=channels,
        subscriptions=subscriptions,
        data=data,
        history_size=settings.history_size,
        history_ttl=settings.history_ttl,
    )
    means = Means(cores=cores, memory=memory, release_rate=settings.release_rate)
    found = size(load, means)
    if as_object:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        typer.echo("\n".join(as_text(load, means, found)))


def as_text(load: Load, means: Means, found: Sizing) -> list[str]:
    """For people."""
    carrying = found.hosts - means.spare
    lines = [
        ("load", f"{found.deliveries:,.0f} deliveries a second, {load.audience:,.3g} each"),
        ("hosts", f"{found.hosts} of {means.cores} cores, of which {means.spare} may be away"),
        ("workers", f"{found.workers} on {carrying}, each {found.busy:.0%} busy"),
        ("one host then", f"{found.connections:,} connections, {found.memory:.1f} GiB"),
        ("a host leaves in", f"{_span(found.leave)}, at {means.release_rate:g} clients a second"),
        ("engine", f"{found.engine_busy:.2f} cores, {found.engine_memory:.2f} GiB of history"),
        ("", f"{found.engine_told:,.0f} messages a second to workers"),
    ]
    shown = [f"{name:18}{what}" for name, what in lines]
    return shown + [f"note: {said}" for said in warnings(load, means, found)]


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _MINUTE else f"{seconds / 60:.0f} min"

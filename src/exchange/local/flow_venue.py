"""A venue that a seeded flow can run on: its markets open, its accounts funded."""

from collections.abc import Sequence

from exchange.domain.events import Event
from exchange.engine.port import EngineFactory
from exchange.flow.seeded import FlowCommand, SeededFlow
from exchange.local.venue import START_US, Venue

PART: int = 1_000
"""Markets per operation, transfers per link: below what one may carry."""


def open_flow_venue(flow: SeededFlow, factory: EngineFactory, *, signed: bool = False, keep_log: bool = True) -> Venue:
    """Return a venue with the flow's markets, its accounts funded by links from the treasury."""
    venue = Venue(factory, environment="flow", shard=flow.markets[0].shard, signed=signed, keep_log=keep_log)
    for start in range(0, len(flow.markets), PART):
        venue.define_markets(*flow.markets[start : start + PART])
    funding = flow.funding()
    for start in range(0, len(funding), PART):
        venue.credit(*funding[start : start + PART])
    return venue


def execute_on(venue: Venue, command: FlowCommand) -> Sequence[Event]:
    """Enter a flow's command as a batch of its own, at its time, and return what happened."""
    venue.now_us = START_US + command.time_us
    return venue.trade(command.account, command.command)


def record_flow(flow: SeededFlow, commands: int, factory: EngineFactory) -> list[FlowCommand]:
    """Return the next commands of a flow, made against an engine of their own."""
    venue = open_flow_venue(flow, factory, keep_log=False)
    return list(flow.run(commands, lambda command: execute_on(venue, command)))

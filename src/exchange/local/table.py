"""Scenarios drawn as tables, a step to a line, which tests are written in.

    market BTC-USD taker_fee_ppm=1000      # settings of the market; left out: BTC-USD with no rules and no fees
    funds  A 10 BTC 500 USD                # funds of an account; left out: ample
    place  A sell 4 @ 100                  -> accepted
    place  B buy  6 @ 101 ioc as b1        -> traded 4 @ 100, cancelled 2
    book                                   -> empty

A table compiles to the same scenario that JSON gives, and is played by the same player. What stands after the arrow is
the step's `expect`. Orders without a name of their own are called after their account: a1, a2 and so on. Words are
those of the scenario's fields; docs/scenarios.md has a line for every step.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from exchange.engine.port import EngineFactory
from exchange.local.drawing import draw_step
from exchange.local.player import Played, play_scenario
from exchange.local.reading import scenario_of
from exchange.local.scenario import Scenario

DEFAULT_SYMBOL: Final = "BTC-USD"
_CONTINUED: Final = re.compile(r"\n\s*->")
"""An arrow at the start of a line belongs to the line before."""
_TIME_WORDS: Final = ("gtc", "ioc", "fok")
_UNITS: Final = ("us", "ms")


class TableError(AssertionError):
    """A table cannot be read, or what came of it is not what it says; the message draws what came instead."""


def play(engine: EngineFactory, table: str) -> Played:
    """Return what comes of a table on an engine.

    Raises:
        TableError: a line cannot be read, or an expectation was not met.
        ScenarioError: a line names something that there is not.
    """
    scenario = compile_table(table)
    played = play_scenario(scenario, engine)
    if not played.ok:
        steps = [f"    {draw_step(scenario.commands[step.step])} -> {step.outcome}" for step in played.steps]
        failures = [f"{failure.field}: {failure.message}" for failure in played.failures]
        raise TableError("\n".join([*failures, f"what came of it on {engine.name}:", *steps]))
    return played


def compile_table(table: str) -> Scenario:
    """Return the scenario that a table draws.

    Raises:
        TableError: a line cannot be read.
        ScenarioError: a line has a value that the schema does not allow.
    """
    markets: list[dict[str, Any]] = []
    funds: dict[str, Any] = {}
    commands: list[dict[str, Any]] = []
    naming = _Naming()
    for line in _CONTINUED.sub(" ->", table).splitlines():
        drawn, arrow, expect = line.partition("#")[0].partition("->")
        if not drawn.split():
            continue
        words = _Words(drawn.split(), repr(" ".join(drawn.split())))
        first = words.take()
        if first == "market":
            markets.append(_market(words))
        elif first == "funds":
            account = words.take()
            funds[account] = _funds(words)
        else:
            command = _step(first, words, naming)
            words.end()
            commands.append({**command, "expect": expect.strip()} if arrow else command)
    for account in naming.accounts:
        funds.setdefault(account, "ample")
    return scenario_of(
        {
            "markets": markets or [{"symbol": DEFAULT_SYMBOL, "base": "BTC", "quote": "USD"}],
            "accounts": [{"name": name, "funds": has} for name, has in funds.items()],
            "commands": commands,
        }
    )


class _Naming:
    """Accounts in the order in which a table names them, each with how many orders it has placed."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}

    def account(self, name: str) -> str:
        self.accounts.setdefault(name, 0)
        return name

    def order(self, account: str) -> str:
        self.accounts[account] += 1
        return f"{account.lower()}{self.accounts[account]}"


class _Words:
    """The words of a line that are still to be read."""

    def __init__(self, words: list[str], where: str) -> None:
        self.words = words
        self.where = where

    def __bool__(self) -> bool:
        return bool(self.words)

    def take(self) -> str:
        if not self.words:
            raise TableError(f"{self.where}: a word is missing at the end")
        return self.words.pop(0)

    def number(self) -> int:
        word = self.take()
        if not word.isdecimal():
            raise TableError(f"{self.where}: {word!r} is no number")
        return int(word)

    def skip(self, word: str) -> bool:
        """Take the word if it is the next one, and return whether it was."""
        if self.words[:1] == [word]:
            self.words.pop(0)
            return True
        return False

    def need(self, word: str) -> None:
        if not self.skip(word):
            raise TableError(f"{self.where}: {word!r} is missing before {' '.join(self.words)!r}")

    def end(self) -> None:
        if self.words:
            raise TableError(f"{self.where}: {' '.join(self.words)!r} is not understood")


def _step(op: str, words: _Words, naming: _Naming) -> dict[str, Any]:
    """Return the step of a line as JSON."""
    if op == "batch":
        return _batch(words, naming)
    readers: dict[str, Callable[[_Words, _Naming], dict[str, Any]]] = {
        "place": _place,
        "cancel": _order,
        "reduce": _reduce,
        "replace": _replace,
        "cancel_all": _cancel_all,
        "cancel_orders": _cancel_orders,
        "release": _release,
        "deposit": _deposit,
        "set_state": _state,
        "open": _state,
        "post_only": _state,
        "cancel_only": _state,
        "halt": _state,
        "define_market": lambda words, _: {"symbol": words.take(), **_settings(words)},
        "settings": lambda words, _: _settings(words),
        "sweep_fees": lambda words, _: {"asset": words.take()},
        "resend": lambda words, _: {"batch": words.take()},
        "advance": lambda words, _: _time(words, "by") if words and words.words[0] != "at" else {},
        "book": lambda words, _: {"market": words.take()} if words and words.words[0] != "at" else {},
        "balances": lambda words, naming: {"account": naming.account(words.take())},
        "orders": lambda words, naming: {"account": naming.account(words.take())},
    }
    if op not in readers:
        raise TableError(f"{words.where}: there is no step {op!r}; there are: {', '.join(sorted([*readers, 'batch']))}")
    step = {"op": op, **readers[op](words, naming)}
    if words.skip("at"):
        step |= _time(words, "at")
    return step


def _batch(words: _Words, naming: _Naming) -> dict[str, Any]:
    account = naming.account(words.take())
    step: dict[str, Any] = {"op": "batch", "account": account, "commands": []}
    while not words.skip(":"):
        match words.take():
            case "nonce":
                step["nonce"] = words.number()
            case "valid":
                step["valid_for_ms"] = words.number()
            case "as":
                step["id"] = words.take()
            case other:
                raise TableError(f"{words.where}: {other!r} is none of nonce, valid, as and :")
    while words:
        end = words.words.index(";") if ";" in words.words else len(words.words)
        inner = _Words(words.words[:end], words.where)
        del words.words[: end + 1]
        step["commands"].append(_step(inner.take(), inner, naming))
        inner.end()
    return step


def _place(words: _Words, naming: _Naming) -> dict[str, Any]:
    account = naming.account(words.take())
    step: dict[str, Any] = {"account": account, "side": words.take(), "quantity_lots": words.number()}
    if words.skip("market"):
        step["order_type"] = "market"
    else:
        words.need("@")
        step["price_ticks"] = words.number()
    default_name = naming.order(account)
    while words and words.words[0] != "at":
        match words.take():
            case "@" if "price_ticks" not in step:
                step["price_ticks"] = words.number()
            case time_in_force if time_in_force in _TIME_WORDS:
                step["time_in_force"] = time_in_force
            case "post_only":
                step["post_only"] = True
            case "stp":
                step["self_trade_prevention"] = words.take()
            case "client":
                step["client_order_id"] = words.number()
            case "in":
                step["market"] = words.take()
            case "as":
                step["id"] = words.take()
            case other:
                raise TableError(f"{words.where}: {other!r} is not understood")
    return {"id": default_name, **step}


def _order(words: _Words, naming: _Naming) -> dict[str, Any]:
    if words.skip("client"):
        step: dict[str, Any] = {"client_order_id": words.number()}
    elif words.skip("order_id"):
        step = {"order_id": words.number()}
    else:
        step = {"order": words.take()}
    if words.skip("of"):
        step["account"] = naming.account(words.take())
    return step


def _reduce(words: _Words, naming: _Naming) -> dict[str, Any]:
    step = _order(words, naming)
    words.need("by")
    return {**step, "quantity_lots": words.number()}


def _replace(words: _Words, naming: _Naming) -> dict[str, Any]:
    step = _order(words, naming)
    if words and words.words[0] not in ("@", "at"):
        step["quantity_lots"] = words.number()
    if words.skip("@"):
        step["price_ticks"] = words.number()
    return step


def _cancel_all(words: _Words, naming: _Naming) -> dict[str, Any]:
    return {"account": naming.account(words.take()), **_scope(words)}


def _cancel_orders(words: _Words, naming: _Naming) -> dict[str, Any]:
    account = {"account": naming.account(words.take())} if words.skip("of") else {}
    return {**account, **_scope(words)}


def _scope(words: _Words) -> dict[str, Any]:
    step: dict[str, Any] = {}
    if words and words.words[0] in ("buy", "sell"):
        step["side"] = words.take()
    if words.skip("in"):
        step["market"] = words.take()
    return step


def _release(words: _Words, naming: _Naming) -> dict[str, Any]:
    return {"account": naming.account(words.take()), "amount_units": words.number(), "asset": words.take()}


def _deposit(words: _Words, naming: _Naming) -> dict[str, Any]:
    step: dict[str, Any] = {"account": naming.account(words.take()), "funds": _funds(words)}
    if words.skip("link"):
        step["sequence"] = words.number()
    return step


def _state(words: _Words, _: _Naming) -> dict[str, Any]:
    step: dict[str, Any] = {}
    if words and words.words[0] not in ("in", "from", "at"):
        step["state"] = words.take()
    if words.skip("in"):
        step["market"] = words.take()
    if words.skip("from"):
        step |= _time(words, "effective")
    return step


def _time(words: _Words, kind: str) -> dict[str, Any]:
    time, unit = words.number(), words.take()
    if unit not in _UNITS:
        raise TableError(f"{words.where}: {unit!r} is no unit of time; us and ms are")
    return {f"{kind}_{unit}": time}


def _funds(words: _Words) -> dict[str, int]:
    funds: dict[str, int] = {}
    while words and words.words[0] not in ("link", "at"):
        units = words.number()
        funds[words.take()] = units
    return funds


def _market(words: _Words) -> dict[str, Any]:
    symbol = DEFAULT_SYMBOL if words and "=" in words.words[0] else words.take()
    base, _, quote = symbol.partition("-")
    return {"symbol": symbol, "base": base, "quote": quote, **_settings(words)}


def _settings(words: _Words) -> dict[str, Any]:
    """Return `name=value` pairs; a table is written `from:multiple/from:multiple`."""
    settings: dict[str, Any] = {}
    while words and words.words[0] != "at":
        name, _, value = words.take().partition("=")
        if name in ("tick_table", "lot_table"):
            multiple = "multiple_ticks" if name == "tick_table" else "multiple_lots"
            rows = [row.partition(":")[0::2] for row in value.split("/")]
            settings[name] = [{"from_price_ticks": int(start), multiple: int(of)} for start, of in rows]
        else:
            settings[name] = int(value) if value.isdecimal() else value
    return settings

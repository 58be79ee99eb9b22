"""The compiled module `exchange_core` and the engine that is made of it: what only they can get wrong."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exchange.domain import limits, units
from exchange.domain.commands import CancelOrder
from exchange.domain.limits import SIGNATURE_BYTES
from exchange.domain.markets import Market
from exchange.domain.stops import EngineStop
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES
from exchange.engine.port import EngineFactory, RawEntry
from exchange.local.venue import Venue
from exchange.reference.signing import sign
from exchange.wire.checkpoint import CheckpointError
from exchange.wire.errors import UnknownFormatError, WireError, WireReason
from exchange.wire.messages import encode

exchange_core = pytest.importorskip("exchange_core", reason="the core is not built: make core")
from exchange.engine.core import batch_verifier  # noqa: E402 - imports the module

ROOT = Path(__file__).parents[1]
CRATE = ROOT / "src" / "exchange-core"


def test_the_core_is_the_default_where_it_is_built() -> None:
    assert DEFAULT_ENGINE == "core"
    assert sorted(ENGINES) == ["core", "reference"]


@pytest.mark.parametrize(("name", "module"), [("LIMITS", limits), ("UNITS", units)])
def test_constants_of_the_crate_are_those_of_the_domain(name: str, module: object) -> None:
    found: dict[str, int] = getattr(exchange_core, name)
    in_source = re.findall(r"^pub const ([A-Z_]+):", (CRATE / "src" / f"{name.lower()}.rs").read_text(), re.MULTILINE)
    assert sorted(found) == sorted(in_source)
    assert found == {constant: getattr(module, constant) for constant in found}


def test_bytes_that_are_no_genesis_are_refused_alike_by_both_engines() -> None:
    genesis = Venue(ENGINES["reference"]).genesis
    for data in (b"", genesis[:-1], genesis + b"\xff\xff", b"\x08\x01" + genesis):
        raised = []
        for factory in ENGINES.values():
            with pytest.raises(WireError) as error:
                factory.from_genesis(data)
            raised.append((error.value.reason, error.value.field, error.value.offset))
        assert len(set(raised)) == 1, raised


def test_the_stub_is_what_the_module_has(tmp_path: Path) -> None:
    inner = tmp_path / "allowed"  # The package that maturin makes is nothing but a shell around the compiled module.
    inner.write_text("exchange_core.exchange_core\n")
    command = [sys.executable, "-m", "mypy.stubtest", "exchange_core", "--allowlist", str(inner)]
    command += ["--mypy-config-file", "pyproject.toml"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_another_thread_runs_while_the_core_works() -> None:
    """Nobody is asked to give the GIL up within the test, so the other thread counts only while a call has released it.

    The thread itself gives it up each time, by sleeping for nothing, so that the call can take it back.
    """
    venue = Venue(ENGINES["core"])
    trader = venue.trader(1)
    rows = 512
    messages = [b"message"] * rows
    signatures, keys = sign(trader.seed, b"message") * rows, trader.public_key * rows
    payload = venue.batch(1, CancelOrder(1)).payload
    count, running, stop = 0, threading.Event(), threading.Event()

    def work() -> None:
        nonlocal count
        while not stop.is_set():
            count += 1
            running.set()
            time.sleep(0)

    def counts_during(call: Callable[[], object]) -> bool:
        for _ in range(100):  # a busy system may not give the thread a turn in each
            before = count
            call()
            if count > before:
                return True
        return False

    def apply() -> None:
        first = venue.engine.position + 1
        venue.engine.apply([RawEntry(n, venue.now_us, b"") for n in range(first, first + 10_000)])

    interval = sys.getswitchinterval()
    counter = threading.Thread(target=work)
    sys.setswitchinterval(1_000.0)
    counter.start()
    try:
        running.wait()
        assert not counts_during(lambda: exchange_core.batch_head(payload))  # too short to give it up
        assert counts_during(lambda: exchange_core.Verifier(8).verify_batch(messages, signatures, keys))
        assert counts_during(apply)
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        counter.join()


@pytest.mark.parametrize(
    "call",
    [
        lambda shard: shard.apply(None),
        lambda shard: shard.apply("ab"),
        lambda shard: shard.apply([(1, 1, "frame")]),
        lambda shard: shard.apply([("1", 1, b"")]),
        lambda shard: shard.apply([(1.0, 1, b"")]),
        lambda shard: shard.what_if([1], 0),
        lambda shard: shard.depth("BTC", 1),
        lambda shard: shard.has_due_work(None),
        lambda shard: exchange_core.Shard.from_genesis("genesis"),
        lambda shard: exchange_core.Shard.from_checkpoint(memoryview(b"checkpoint")),
        lambda shard: exchange_core.Shard(),
        lambda shard: exchange_core.check(b"Batch", b""),
        lambda shard: exchange_core.check("Batch", [1, 2]),
        lambda shard: exchange_core.key_refusal(bytearray(32)),
        lambda shard: exchange_core.Verifier(8).verify_batch([b""], "", b""),
    ],
)
def test_an_argument_of_another_type_is_a_type_error(call) -> None:  # type: ignore[no-untyped-def]
    shard = exchange_core.Shard.from_genesis(Venue(ENGINES["reference"]).genesis)
    with pytest.raises(TypeError):
        call(shard)
    assert shard.position == 0


@pytest.mark.parametrize("entry", [(1, 1), (1, 1, b"", 1)])
def test_a_tuple_of_another_length_is_a_value_error(entry: Any) -> None:
    genesis = Venue(ENGINES["reference"]).genesis
    shard = exchange_core.Shard.from_genesis(genesis)
    with pytest.raises(ValueError, match="tuple of length 3"):
        shard.apply([entry])
    with pytest.raises(ValueError, match="tuple of length 3"):
        exchange_core.Ledger(genesis).fold([b""], [entry])
    assert shard.position == 0


def test_a_kind_of_holder_and_a_side_that_there_is_not_are_refused() -> None:
    genesis = Venue(ENGINES["reference"]).genesis
    ledger, fold = exchange_core.Ledger(genesis), exchange_core.ShardFold.from_genesis(genesis)
    with pytest.raises(ValueError, match=r"^HOLDER_KIND: 200; "):
        ledger.units(200, 1, 1)
    with pytest.raises(ValueError, match=r"^HOLDER_KIND: 200; "):
        ledger.by_asset(200, 1)
    for side in (0, 3):
        with pytest.raises(ValueError, match=f"^SIDE: {side}; 1: buy, 2: sell"):
            fold.level_at(1, side, 1)


def test_a_verifier_does_not_take_the_program_itself_for_a_library() -> None:
    with pytest.raises(ValueError, match=r"^IFMA_PATH: "):
        exchange_core.Verifier(8, "")


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_fits_no_field_is_an_overflow_error(number: int) -> None:
    shard = exchange_core.Shard.from_genesis(Venue(ENGINES["reference"]).genesis)
    with pytest.raises(OverflowError):
        shard.apply([(number, 1, b"")])
    assert shard.position == 0


def test_rows_that_do_not_match_are_refused_before_anything_is_verified() -> None:
    for messages, signatures, keys in (
        ([b""], bytes(63), bytes(32)),
        ([b""], bytes(64), bytes(31)),
        ([b""], bytes(128), bytes(32)),
        ([], bytes(64), bytes(32)),
    ):
        with pytest.raises(ValueError, match="SHAPE"):
            exchange_core.Verifier(8).verify_batch(messages, signatures, keys)
    assert exchange_core.Verifier(8).verify_batch([], b"", b"") == []


def test_the_module_gives_the_verdict_of_every_case_of_the_rule() -> None:
    cases = json.loads((ROOT / "tests" / "vectors" / "ed25519_rule.json").read_text())["vectors"]
    registered = []
    for case in cases:
        key, message, signature = (bytes.fromhex(case[name]) for name in ("public_key", "message", "signature"))
        verdict = exchange_core.key_refusal(key)
        if verdict is None:
            verdict = exchange_core.signature_refusal(key, message, signature)
            registered.append((key, message, signature, case["expected"] == "accept"))
        assert verdict == case.get("reason"), case["name"]
    rows = [row for row in registered if len(row[2]) == SIGNATURE_BYTES]
    columns = (
        [message for _, message, _, _ in rows],
        b"".join(signature for _, _, signature, _ in rows),
        b"".join(key for key, _, _, _ in rows),
    )
    for verifier in (exchange_core.Verifier(8), batch_verifier(8)):
        assert verifier.verify_batch(*columns) == [accepted for _, _, _, accepted in rows]


def test_a_library_that_was_named_and_does_not_load_is_an_error_where_the_processor_could_run_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "libexchange_ifma.so"
    file.write_bytes(b"no library")
    try:
        why = exchange_core.Verifier(8, file).why_portable
    except ValueError as error:
        assert str(error).startswith("IFMA_LOAD")  # noqa: PT017 - which of the two it is, the processor decides
    else:
        assert why.startswith("IFMA_PROCESSOR")


def test_a_verifier_says_which_path_it_takes_and_why() -> None:
    portable, fastest = exchange_core.Verifier(8), batch_verifier(8)
    assert (portable.path, portable.why_portable.split(":")[0]) == ("dalek", "IFMA_NONE")
    assert (fastest.path == "ifma") == (not fastest.why_portable)


def test_the_environment_names_no_native_code_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    path = batch_verifier(8).path
    monkeypatch.setenv("EXCHANGE_IFMA_LIBRARY", "/nowhere/libexchange_ifma.so")
    assert batch_verifier(8).path == path


def test_what_is_asked_of_a_shard_that_stopped_is_answered_with_the_stop(engine: EngineFactory) -> None:
    shard = engine.from_genesis(Venue(engine).genesis)
    shard.apply([RawEntry(1, 1, b"")])
    with pytest.raises(EngineStop) as stop:
        shard.apply([RawEntry(2, 2, b""), RawEntry(2, 3, b"")])
    calls = (
        lambda: shard.apply([RawEntry(3, 3, b"")]),
        lambda: shard.has_due_work(0),
        shard.next_due_us,
        shard.summary,
        shard.facts,
        shard.markets,
        shard.state_hash,
        shard.checkpoint,
        lambda: shard.depth(1, 1),
        lambda: shard.balances(1),
        lambda: shard.open_orders(1),
        lambda: shard.book(1, 1),
        lambda: shard.what_if([], 0),
    )
    for call in calls:
        with pytest.raises(EngineStop) as again:
            call()
        assert again.value is stop.value
    assert (shard.shard, shard.position, len(shard.chain_hash)) == (1, 2, 32)


def test_bytes_of_another_format_are_refused_by_name(engine: EngineFactory) -> None:
    shard = engine.from_genesis(Venue(engine).genesis)
    for call in (
        lambda: engine.from_genesis(b"\x08\x02"),
        lambda: engine.from_checkpoint(b"\x08\x02"),
        lambda: shard.apply([RawEntry(1, 1, b"\x08\x02")]),
    ):
        with pytest.raises(UnknownFormatError) as error:
            call()
        assert error.value.found == 2


def test_a_damaged_checkpoint_is_no_checkpoint(engine: EngineFactory) -> None:
    venue = Venue(engine)
    checkpoint = bytearray(venue.engine.checkpoint())
    checkpoint[-1] ^= 1
    with pytest.raises(CheckpointError, match="STATE_HASH"):
        engine.from_checkpoint(bytes(checkpoint))


def test_check_and_recode_know_what_the_wire_knows() -> None:
    market = encode(Market(market=7, symbol="A-B"))
    assert exchange_core.recode("Market", market) == market
    exchange_core.check("Market", market)
    with pytest.raises(exchange_core.WireError) as error:
        exchange_core.check("Market", market + b"\x00")
    reason, field, offset, detail = error.value.args
    assert WireReason(reason)
    assert isinstance(field, str)
    assert offset == len(market)
    assert isinstance(detail, str)
    with pytest.raises(ValueError, match="ControlState"):
        exchange_core.check("ControlState", b"")


def test_state_is_what_the_checkpoint_carries() -> None:
    venue = Venue(ENGINES["core"])
    shard = exchange_core.Shard.from_genesis(venue.genesis)
    assert shard.state() in shard.checkpoint()
    assert exchange_core.recode("ShardState", shard.state()) == shard.state()

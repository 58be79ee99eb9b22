"""`clob loadtest`: what is prepared is signed, different, accepted by a real exchange, and handed out once."""

import asyncio
import contextlib
import io
import json
import shutil
import stat
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf.proto import parse_length_prefixed

from clob.v1 import account_service_pb2, order_service_pb2, outcome_pb2, verification_service_pb2
from clob.v1.account_service_pb2_grpc import AccountServiceStub
from clob.v1.order_service_pb2_grpc import OrderServiceStub
from clob.v1.verification_service_pb2_grpc import VerificationServiceStub
from exchange.cli.main import main
from exchange.cli.up import without_rates
from exchange.client.prepared import PreparedError, PreparedFolder, delimited, read_delimited
from exchange.config.environment import LOAD_TEST_SETTINGS, Durability
from exchange.domain.commands import Batch
from exchange.embedded.data_dir import DataDirError, open_data_dir
from exchange.wire.messages import decode
from loadtest import bench_ghz
from tests.support.hosted import Hosted
from tests.support.running import ENVIRONMENT, settle_and_audit

USERS, SINGLE, BATCH, MANY, VERIFY, SIZE = 3, 20, 4, 2, 5, 8
SIZES = [
    *("--users", str(USERS), "--single", str(SINGLE), "--batch", str(BATCH)),
    *("--many", str(MANY), "--verify", str(VERIFY), "--size", str(SIZE)),
]


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("loadtest")
    open_data_dir(folder, environment=ENVIRONMENT, durability=Durability.MEMORY, settings=LOAD_TEST_SETTINGS)
    made = Hosted(folder, {"ingress-verifier": without_rates()})
    yield made
    made.close()


@pytest.fixture(scope="module")
def said(hosted: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("prepared") / "load"
    result = clob(hosted, "prepare", str(folder), "--traders", hosted.exchange.traders, *SIZES, "--json")
    assert "clobsk_" not in result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(said: Any, tmp_path: Path) -> PreparedFolder:
    """A copy of what was prepared, of which nothing was taken."""
    shutil.copytree(said["folder"], tmp_path / "load")
    return PreparedFolder(tmp_path / "load")


def clob(hosted: Hosted, *arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["loadtest", *arguments, "--address", hosted.exchange.admin])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result


def submissions(path: Path) -> list[order_service_pb2.SubmitRequest]:
    """Read a file as protobuf itself does, not as we wrote it."""
    data = path.read_bytes()
    stream, found = io.BytesIO(data), []
    while stream.tell() < len(data):
        found.append(parse_length_prefixed(order_service_pb2.SubmitRequest, stream))
    return found


def payloads(path: Path) -> list[Batch]:
    return [decode(Batch, batch.payload) for message in submissions(path) for batch in message.batches]


# --- prepare --------------------------------------------------------------------------------------------------------


def test_every_payload_is_written_once_and_no_nonce_repeats(folder: PreparedFolder, said: Any) -> None:
    single, batch, many = (payloads(folder.stock_file(f"submit-{name}")) for name in ("single", "batch", "many"))
    checked = [
        decode(Batch, part.payload)
        for message in read_delimited(folder.stock_file("verify").read_bytes())
        for part in verification_service_pb2.VerifyRequest.FromString(message).batches
    ]
    assert [len(found) for found in (single, batch, many, checked)] == [SINGLE, BATCH, MANY * SIZE, VERIFY]
    assert {len(found.commands) for found in single} == {len(found.commands) for found in many} == {1}
    assert {len(found.commands) for found in batch} == {SIZE}
    signed = [*single, *batch, *many, *checked]
    assert len({found.nonce for found in signed}) == len(signed)
    assert {found.account for found in signed} == {user.account for user in folder.users()}
    assert {found.valid_until_ms for found in signed} == {said["valid_until_ms"]}


def test_everything_that_was_prepared_is_accepted_and_balances(hosted: Hosted, folder: PreparedFolder) -> None:
    requests = [
        request
        for name in ("submit-single", "submit-batch", "submit-many")
        for request in submissions(folder.stock_file(name))
    ]

    async def send() -> list[order_service_pb2.SubmitResponse]:
        async with grpc.aio.insecure_channel(hosted.exchange.traders) as channel:
            stub = OrderServiceStub(channel)
            return list(await asyncio.gather(*(stub.Submit(request, timeout=30) for request in requests)))

    outcomes = [outcome for answer in hosted.run(send()) for outcome in answer.outcomes]
    assert len(outcomes) == SINGLE + BATCH + MANY * SIZE
    assert {outcome.state for outcome in outcomes} == {outcome_pb2.SEND_STATE_EXECUTED}
    assert not any(outcome.repeated for outcome in outcomes)
    kinds = [event.WhichOneof("event") for outcome in outcomes for event in outcome.events]
    assert kinds.count("order_accepted") == SINGLE + (BATCH + MANY) * SIZE
    assert "command_rejected" not in kinds
    assert kinds.count("trade") >= SINGLE // 4
    assert hosted.run(settle_and_audit(hosted.exchange)).passed


def test_the_session_opens_what_ghz_asks_with_it(hosted: Hosted, folder: PreparedFolder) -> None:
    metadata = tuple(json.loads(folder.session_file.read_bytes()).items())
    verify = verification_service_pb2.VerifyRequest.FromString(
        next(read_delimited(folder.stock_file("verify").read_bytes()))
    )
    balances = account_service_pb2.GetBalancesRequest.FromString(
        next(read_delimited(folder.part_file("balances").read_bytes()))
    )

    async def ask() -> tuple[Any, Any]:
        async with grpc.aio.insecure_channel(hosted.exchange.traders) as channel:
            return (
                await VerificationServiceStub(channel).Verify(verify, metadata=metadata, timeout=30),
                await AccountServiceStub(channel).GetBalances(balances, metadata=metadata, timeout=30),
            )

    verdicts, found = hosted.run(ask())
    assert [verdict.door_reason for verdict in verdicts.verdicts] == [0]
    assert any(shard.balances for shard in found.shards)


def test_secrets_are_their_owners_alone_and_payload_files_hold_none(folder: PreparedFolder) -> None:
    for path in (folder.users_file, folder.session_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "clobsk_" not in repr(folder.users())
    secrets = [bytes.fromhex(user.private_key.removeprefix("clobsk_")) for user in folder.users()]
    for path in (folder.plan_file, *folder.stocks.iterdir(), *folder.root.glob("*.bin")):
        content = path.read_bytes()
        assert b"clobsk_" not in content
        assert not any(secret in content or secret.hex().encode() in content for secret in secrets)


# --- take -----------------------------------------------------------------------------------------------------------


def test_messages_are_handed_out_once(hosted: Hosted, folder: PreparedFolder) -> None:
    parts = []
    for calls, left in ((7, 13), (13, 0)):
        said = json.loads(
            clob(hosted, "take", str(folder.root), "submit-single", "--calls", str(calls), "--json").stdout
        )
        assert (said["messages"], said["left"]) == (calls, left)
        assert Path(said["file"]) == folder.part_file("submit-single")
        parts += list(read_delimited(Path(said["file"]).read_bytes()))
    assert parts == list(read_delimited(folder.stock_file("submit-single").read_bytes()))
    refused = clob(hosted, "take", str(folder.root), "submit-single", "--calls", "1", exit_code=2)
    assert "PREPARED_EXHAUSTED: 1 messages of submit-single are wanted and 0 of 20" in refused.output
    clob(hosted, "take", str(folder.root), "book", "--calls", "1000")


def test_what_cannot_be_sent_is_not_handed_out(hosted: Hosted, folder: PreparedFolder, tmp_path: Path) -> None:
    plan = folder.plan()
    ends_ms = plan.valid_until_ms
    for environment, now, name, calls, reason in (
        ("other", 0, "submit-single", 1, "PREPARED_ENVIRONMENT"),
        (ENVIRONMENT, ends_ms, "submit-single", 1, "PREPARED_EXPIRED"),
        (ENVIRONMENT, plan.session_until_ms, "balances", 1, "PREPARED_EXPIRED"),
        (ENVIRONMENT, 0, "submit-single", SINGLE + 1, "PREPARED_EXHAUSTED"),
        (ENVIRONMENT, 0, "nothing", 1, "PREPARED_NAME"),
    ):
        with pytest.raises(PreparedError, match=reason):
            folder.take(environment, now, name, calls)
    assert folder.taken() == {}
    folder.take(ENVIRONMENT, ends_ms, "book", 1)
    folder.stock_file("submit-batch").write_bytes(b"\x00")
    with pytest.raises(PreparedError, match="PREPARED_DAMAGED"):
        folder.take(ENVIRONMENT, 0, "submit-batch", 1)
    for place in (tmp_path, tmp_path / "missing"):
        refused = clob(hosted, "take", str(place), "book", "--calls", "1", exit_code=2)
        assert "PREPARED_MISSING" in refused.output
        assert "clob loadtest prepare" in refused.output


def test_delimited_messages_of_every_length_are_read_as_written() -> None:
    messages = [bytes(length) for length in (0, 1, 127, 128, 16_383, 16_384)]
    data = b"".join(map(delimited, messages))
    assert list(read_delimited(data)) == messages
    for end in (len(data) - 1, 1 + 2 + 127):
        with pytest.raises(PreparedError, match="PREPARED_DAMAGED"):
            list(read_delimited(data[:end]))


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--users", "1", "--single", "65537", "--batch", "0", "--many", "0", "--verify", "0"], "at least 2 --users"),
        (["--single", "0", "--batch", "0", "--many", "0", "--verify", "0"], "LOADTEST_SIZE"),
        (["--size", "5000"], "LOADTEST_SIZE"),
        (["--valid-for", "3600001"], "LOADTEST_VALIDITY"),
        (["--market", "NO-SUCH"], "UNKNOWN_MARKET"),
    ],
)
def test_what_cannot_be_prepared_is_refused_before_anything_is_made(
    hosted: Hosted, tmp_path: Path, options: list[str], reason: str
) -> None:
    place = tmp_path / "load"
    refused = clob(hosted, "prepare", str(place), "--traders", hosted.exchange.traders, *options, exit_code=2)
    assert reason in refused.output
    assert not place.exists()


def test_a_folder_that_has_something_is_left_alone(hosted: Hosted, folder: PreparedFolder) -> None:
    before = folder.users_file.read_bytes()
    refused = clob(hosted, "prepare", str(folder.root), "--traders", hosted.exchange.traders, *SIZES, exit_code=2)
    assert "PREPARED_EXISTS" in refused.output
    assert folder.users_file.read_bytes() == before


def test_production_has_no_environment_for_load_tests(tmp_path: Path) -> None:
    place = tmp_path / "data"
    refused = CliRunner().invoke(main, ["up", "--production", "--load-test", "--data-dir", str(place)])
    assert refused.exit_code == 2
    assert "LOAD_TEST_IN_PRODUCTION" in refused.output
    assert not place.exists()
    open_data_dir(place, environment="local", durability=Durability.MEMORY, production=True)
    refused = CliRunner().invoke(main, ["up", "--load-test", "--data-dir", str(place)])
    assert refused.exit_code == 2
    assert "DATA_DIR_SETTINGS" in refused.output


def test_an_environment_keeps_the_settings_that_it_was_made_with(tmp_path: Path) -> None:
    made = open_data_dir(tmp_path, environment="load", durability=Durability.MEMORY, settings=LOAD_TEST_SETTINGS)
    assert made.environment.settings.max_validity_ms == 3_600_000
    assert open_data_dir(tmp_path, environment="load", durability=Durability.MEMORY).environment == made.environment
    other = tmp_path / "other"
    open_data_dir(other, environment="load", durability=Durability.MEMORY)
    with pytest.raises(DataDirError, match="DATA_DIR_SETTINGS"):
        open_data_dir(other, environment="load", durability=Durability.MEMORY, settings=LOAD_TEST_SETTINGS)


def test_rates_are_lifted_but_for_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "KEY", "SESSION", "ADMIN_CALLS"):
        monkeypatch.delenv(f"CLOB_{name}_PER_SECOND", raising=False)
    monkeypatch.setenv("CLOB_KEY_PER_SECOND", "7")
    assert without_rates()[::2] == ("--address-per-second", "--session-per-second", "--admin-calls-per-second")
    assert set(without_rates()[1::2]) == {"0"}


# --- ghz ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", bench_ghz.NAMES)
def test_each_config_sends_the_payloads_of_its_name(name: str, folder: PreparedFolder) -> None:
    config = tomllib.loads((bench_ghz.CONFIGS / f"{name}.toml").read_text("utf-8"))
    stock = folder.plan().stocks[name]
    assert config["call"] == stock.call
    assert (bench_ghz.ROOT / config["proto"]).exists()
    assert Path(config["binary-file"]).name == folder.part_file(name).name
    assert ("metadata-file" in config) == stock.session


@pytest.mark.parametrize(
    ("executed", "refused", "sentence"),
    [
        ({b"answered": 1}, {}, None),
        ({b"answered": 1, b"unsure": 1}, {}, None),
        ({}, {}, "1 batches were answered with OK and are not executed in the log"),
        ({b"answered": 2}, {}, "1 batches are executed more than once"),
        ({b"answered": 1, b"verified": 1}, {}, "1 batches were to be verified and are in the log"),
        ({b"answered": 1, b"foreign": 1}, {}, "1 batches in the log were sent by nobody"),
        ({b"answered": 1}, {"reject reason 7": 1}, "1 batches in the log were refused: reject reason 7"),
    ],
)
def test_a_log_that_is_not_what_was_sent_is_said(
    executed: dict[bytes, int], refused: dict[str, int], sentence: str | None
) -> None:
    sent = bench_ghz.Sent()
    sent.answered, sent.unsure, sent.verified = {b"answered"}, {b"unsure"}, {b"verified"}
    found = sent.failures(Counter(executed), Counter(refused))
    assert found == ([sentence] if sentence else [])


def test_answers_with_ok_of_a_run_with_errors_are_looked_for_too() -> None:
    sent = bench_ghz.Sent()
    sent.unsure, sent.ok_batches_min = {b"a", b"b", b"c"}, 2
    assert sent.failures(Counter({b"a": 1, b"c": 1}), Counter()) == []
    assert sent.failures(Counter({b"a": 1}), Counter()) == [
        "1 batches of runs with errors were OK and are not in the log"
    ]


@pytest.mark.parametrize("passed", [None, False, True])
def test_the_files_of_a_run_that_failed_are_kept(
    passed: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(options: Any, ghz: Path, scratch: Path) -> Any:
        if passed is None:
            raise bench_ghz.BenchError("the tool did not end")
        return {"passed": passed}, []

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(bench_ghz, "find_tool", Path)
    monkeypatch.setattr(bench_ghz, "run", run)
    monkeypatch.setattr(bench_ghz, "write_reports", lambda *_: None)
    monkeypatch.setattr(bench_ghz, "text_of", lambda *_: "")
    with pytest.raises(SystemExit) if passed is None else contextlib.nullcontext():
        bench_ghz.main(["--out", str(tmp_path / "out")])
    kept = list(tmp_path.glob("clob-ghz-*"))
    assert [str(folder) in capsys.readouterr().err for folder in kept] == ([] if passed else [True])


@pytest.mark.skipif(bench_ghz.find_tool("ghz") is None, reason="no ghz: `make loadtest-tools` installs it")
def test_ghz_sends_every_config_and_every_answer_is_in_the_log(tmp_path: Path) -> None:
    out = tmp_path / "ghz"
    report = bench_ghz.main(["--calls", "40", "--in-flight", "4", "--out", str(out)])
    assert report["passed"], report["failures"]
    calls = {row["name"]: row["calls"] for row in report["rows"] if not row["name"].startswith("http")}
    assert calls == {name: 5 if name in ("submit-batch", "submit-many") else 40 for name in bench_ghz.NAMES}
    assert report["executed_batches"] == 40 + 5 + 5 * bench_ghz.SIZE
    assert (out / "index.html").exists()
    for path in out.rglob("*"):
        assert path.is_dir() or b"Bearer" not in path.read_bytes()

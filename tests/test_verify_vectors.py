import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.cli.verify_vectors import CorpusError, Malformed, read_corpus, verify_vectors
from exchange.reference.signing import KeyRefusal, SignatureRefusal, public_key_of, sign
from tests.test_signing import RFC_8032_FILE, RULE, RULE_FILE, TEST_SIZE

SEED = b"verify-vectors".ljust(32, b".")
KEY = public_key_of(SEED).hex()
TEXT = "a message as text"
MESSAGE = TEXT.encode().hex()
SIGNATURE = sign(SEED, TEXT.encode()).hex()
R, S = SIGNATURE[:64], SIGNATURE[64:]
BAD_SIGNATURE = sign(SEED, b"something else").hex()
IDENTITY = "01" + "00" * 31

GOOD = {"public_key": KEY, "message": MESSAGE, "signature": SIGNATURE}
BAD = {"public_key": KEY, "message": MESSAGE, "signature": BAD_SIGNATURE}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs the command on a document, or on bytes, with options."""

    def run_on(document: object, *options: str, name: str = "vectors.json") -> Result:
        file = tmp_path / name
        file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        return CliRunner().invoke(verify_vectors, [str(file), *options])

    return run_on


def judged(result: Result) -> list[tuple[str, str | None, bool | None]]:
    """Return (verdict, reason, agrees) of each case."""
    return [(case["verdict"], case["reason"], case["agrees"]) for case in json.loads(result.stdout)["cases"]]


# --- our own file and what is printed


def test_our_own_cases_all_agree() -> None:
    result = CliRunner().invoke(verify_vectors, [str(RULE_FILE)])
    assert result.exit_code == 0, result.output
    assert f"agreed    {len(RULE):>6}\ndiffer         0" in result.stdout
    assert len(result.stdout.split("\n\n")[0].splitlines()) == len(RULE)


@pytest.mark.skipif(not RFC_8032_FILE.exists(), reason=f"needs {RFC_8032_FILE}; CLOB_SAMPLE_DATA names another folder")
def test_the_file_of_rfc_8032_is_accepted_throughout() -> None:
    result = CliRunner().invoke(verify_vectors, [str(RFC_8032_FILE)])
    assert result.exit_code == 0
    assert "cases          5\naccepted       5\nrefused        0" in result.stdout


def test_a_line_says_whether_the_case_agrees_its_verdict_reason_and_name(run: Run) -> None:
    result = run(
        {
            "vectors": [
                {"name": "one", **GOOD, "expected": "accept"},
                {"name": "two", **BAD, "expected": "refuse", "reason": "S_NOT_REDUCED", "comment": "not so"},
                {"name": "three", **BAD, "public_key": IDENTITY},
            ]
        }
    )
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "agreed   accept                    one",
        "DIFFERS  refuse EQUATION           two: not so [expected refuse S_NOT_REDUCED]",
        "-        refuse KEY_SMALL_ORDER    three",
        "",
        "cases          3",
        "accepted       1",
        "refused        2",
        "               1  EQUATION",
        "               1  KEY_SMALL_ORDER",
        "agreed         1",
        "differ         1",
        "unstated       1  (the file does not say what to expect)",
    ]


def test_json_is_one_document_with_the_cases_and_the_counts(run: Run) -> None:
    result = run([{"name": "one", **BAD, "expected": "accept"}], "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["file"].endswith("vectors.json")
    assert document["cases"] == [
        {
            "name": "one",
            "verdict": "refuse",
            "reason": "EQUATION",
            "expected": "accept",
            "expected_reason": None,
            "agrees": False,
            "comment": "",
        }
    ]
    assert document["summary"] == {
        "cases": 1,
        "accepted": 0,
        "refused": 1,
        "refused_by_reason": {"EQUATION": 1},
        "agreed": 0,
        "differ": 1,
        "nothing_expected": 0,
        "skipped": 0,
    }


def test_a_name_from_the_file_cannot_start_a_line_or_move_the_cursor(run: Run) -> None:
    result = run([{"name": "a\nagreed  \x1b[2Jb", "comment": "c\r\nd\u2028e", **GOOD}])
    assert result.stdout.splitlines()[0] == "-        accept                    a agreed [2Jb: c d e"


def test_help_names_every_reason() -> None:
    text = CliRunner().invoke(verify_vectors, ["--help"]).stdout
    assert [reason for reason in (*KeyRefusal, *SignatureRefusal, *Malformed) if f"{reason}" not in text] == []
    assert max(len(line) for line in text.splitlines()) <= 80


# --- what a file may expect


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *((field, value, "accept") for field, value in [("expected", "accept"), ("valid", True), ("result", "valid")]),
        *(
            (field, value, "refuse")
            for field, value in [("expected", "refuse"), ("valid", False), ("result", "invalid")]
        ),
        ("Expected", "VALID", "accept"),
        ("expected", True, "accept"),
        ("testPassed", False, "refuse"),
        ("result", "acceptable", None),
        ("expected", None, None),
    ],
)
def test_expectations_are_read_in_every_form(run: Run, field: str, value: object, expected: str | None) -> None:
    result = run([{**GOOD, field: value}], "--json")
    (case,) = json.loads(result.stdout)["cases"]
    assert case["expected"] == expected
    assert case["agrees"] is (None if expected is None else expected == "accept")
    assert result.exit_code == (1 if expected == "refuse" else 0)


def test_a_reason_is_compared_only_beside_a_refusal_that_is_expected(run: Run) -> None:
    reasons = [
        {**BAD, "expected": "refuse", "reason": "EQUATION"},
        {**BAD, "expected": "refuse", "reason": "R_SMALL_ORDER"},
        {**BAD, "testPassed": False, "reason": "modified message"},
        {**GOOD, "expected": "accept", "reason": "as printed in the RFC"},
    ]
    assert [agrees for _, _, agrees in judged(run(reasons, "--json"))] == [True, False, True, True]


def test_an_expectation_that_says_neither_is_an_error(run: Run) -> None:
    result = run([GOOD, {**GOOD, "name": "odd", "result": "maybe"}])
    assert result.exit_code == 2
    assert 'case 1 (odd): field `result` is "maybe"; it says "accept" or "refuse"' in result.stderr


# --- shapes of public corpora


@pytest.mark.parametrize(
    "wrap", [lambda cases: cases, *(lambda cases, n=n: {n: cases} for n in ("vectors", "Tests", "cases"))]
)
@pytest.mark.parametrize(
    "case",
    [
        GOOD,
        {"pk": KEY, "msg": MESSAGE, "sig": SIGNATURE},
        {"publicKey": KEY, "message": MESSAGE, "signature": SIGNATURE.upper()},
        {"pub_key": KEY, "Msg": MESSAGE, "Sig": SIGNATURE},
        {"key": KEY, "msg": MESSAGE, "sig": SIGNATURE},
        {"A": KEY, "M": MESSAGE, "R": R, "S": S},
        {
            "number": 1,
            "desc": "d",
            "pk": KEY,
            "r": R,
            "s": S,
            "msg": MESSAGE,
            "pk_canonical": True,
            "r_canonical": True,
        },
        {"vk_bytes": KEY, "msg": MESSAGE, "sig_bytes": SIGNATURE},
        {"public-key": "0x" + KEY, "message": "0x" + MESSAGE, "signature": "0x" + SIGNATURE},
        {"pk": list(bytes.fromhex(KEY)), "msg": list(TEXT.encode()), "sig": list(bytes.fromhex(SIGNATURE))},
        {"secretKey": "00" * 32, **GOOD, "context": "", "preHash": False},
        {**GOOD, "flags": ["low_order_A"], "valid": True},
    ],
)
def test_fields_have_the_names_that_public_corpora_use(
    run: Run, wrap: Callable[[object], object], case: dict[str, object]
) -> None:
    (verdict,) = judged(run(wrap([case]), "--json"))
    assert verdict[:2] == ("accept", None)


def test_gzip_and_a_byte_order_mark_are_taken(run: Run) -> None:
    plain = json.dumps([GOOD]).encode()
    assert run(gzip.compress(plain), name="vectors.json.gz").exit_code == 0
    assert run(b"\xef\xbb\xbf" + plain).exit_code == 0


@pytest.mark.parametrize("key_field", ["key", "publicKey"])
def test_wycheproof_old_and_new(run: Run, key_field: str) -> None:
    def group(**parts: object) -> dict[str, object]:
        key = {"curve": "edwards25519", "keySize": 255, "pk": KEY, "sk": "00", "type": "EDDSA"}
        return {"type": "EddsaVerify", "jwk": {"x": "Zm9v"}, key_field: key, "keyPem": "-----", **parts}

    document = {
        "algorithm": "EDDSA",
        "numberOfTests": 4,
        "notes": {"Ktv": {"bugType": "BASIC"}},
        "testGroups": [
            group(
                tests=[
                    {
                        "tcId": 1,
                        "comment": "good",
                        "flags": ["Valid"],
                        "msg": MESSAGE,
                        "sig": SIGNATURE,
                        "result": "valid",
                    },
                    {"tcId": 2, "comment": "", "flags": [], "msg": MESSAGE, "sig": SIGNATURE[:-2], "result": "invalid"},
                ]
            ),
            group(
                tests=[
                    {"tcId": 3, "comment": "odd", "msg": MESSAGE, "sig": BAD_SIGNATURE, "result": "acceptable"},
                    {"tcId": 4, "comment": "wrong", "msg": MESSAGE, "sig": BAD_SIGNATURE, "result": "valid"},
                ]
            ),
        ],
    }
    result = run(document, "--json")
    assert result.exit_code == 1
    assert judged(result) == [
        ("accept", None, True),
        ("refuse", "SIGNATURE_LENGTH", True),
        ("refuse", "EQUATION", None),
        ("refuse", "EQUATION", False),
    ]
    assert [case["name"] for case in json.loads(result.stdout)["cases"]] == ["tcId 1", "tcId 2", "tcId 3", "tcId 4"]


def test_acvp_has_the_key_in_the_case_and_groups_of_other_algorithms_are_skipped(run: Run) -> None:
    test = {
        "tcId": 1,
        "message": MESSAGE.upper(),
        "q": KEY.upper(),
        "signature": SIGNATURE,
        "testPassed": True,
        "reason": "x",
    }
    document = {
        "algorithm": "EDDSA",
        "mode": "sigVer",
        "testGroups": [
            {"tgId": 1, "curve": "ED-25519", "preHash": False, "tests": [test]},
            {"tgId": 2, "curve": "ED-25519", "preHash": True, "tests": [test, test]},
            {"tgId": 3, "curve": "ED-448", "preHash": False, "tests": [test]},
        ],
    }
    result = run(document)
    assert result.exit_code == 0
    assert "cases          1\naccepted       1" in result.stdout
    assert "skipped        3  (of another algorithm)" in result.stdout


def test_a_case_of_ed25519ctx_is_skipped_and_a_context_in_prose_is_not(run: Run) -> None:
    result = run([{**GOOD, "context": "666f6f"}, {**GOOD, "name": "kept", "context": "RFC 8032, section 7"}], "--json")
    document = json.loads(result.stdout)
    assert [case["name"] for case in document["cases"]] == ["kept"]
    assert document["summary"]["skipped"] == 1


def test_speccheck_cases_get_verdicts_and_nothing_to_agree_with(run: Run) -> None:
    cases = [{"message": MESSAGE, "pub_key": key, "signature": SIGNATURE} for key in (KEY, IDENTITY)]
    assert judged(run(cases, "--json")) == [("accept", None, None), ("refuse", "KEY_SMALL_ORDER", None)]


@pytest.mark.parametrize("no_flags", [[], None])
@pytest.mark.parametrize(
    ("parts", "flags"),
    [
        ({"key": KEY, "sig": SIGNATURE, "msg": TEXT}, ["low_order_A", "low_order_R"]),
        ({"A": KEY, "R": R, "S": S, "M": TEXT}, ["LowOrderA", "LowOrderR"]),
    ],
)
def test_cctv_has_messages_in_text_and_flags_for_expectations(
    run: Run, parts: dict[str, object], flags: list[str], no_flags: object
) -> None:
    key_field = "key" if "key" in parts else "A"
    cases = [
        {"number": 0, **parts, "flags": no_flags},
        {"number": 1, **parts, key_field: IDENTITY, "flags": flags},
        {"number": 2, **parts, "flags": flags},
        {"number": 3, **parts, "flags": [*flags, "news"]},
    ]
    result = run(cases, "--json")
    assert judged(result) == [
        ("accept", None, True),
        ("refuse", "KEY_SMALL_ORDER", True),
        ("accept", None, False),
        ("accept", None, None),
    ]


@pytest.mark.parametrize(("key_field", "signature_field"), [("vk_bytes", "sig_bytes"), ("vk_hex", "sig_hex")])
def test_zip_215_signs_zcash_and_its_verdicts_are_of_other_rules(
    run: Run, key_field: str, signature_field: str
) -> None:
    signature = sign(SEED, b"Zcash").hex()
    good = {key_field: KEY, signature_field: signature, "valid_legacy": False, "valid_zip215": False}
    small = {key_field: IDENTITY, signature_field: IDENTITY + "00" * 32, "valid_legacy": False, "valid_zip215": True}
    result = run([good, small], "--json")
    assert result.exit_code == 0
    assert judged(result) == [("accept", None, None), ("refuse", "KEY_SMALL_ORDER", None)]


# --- cases and files that are not well formed


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("public_key", KEY[:-1], "KEY_NOT_HEX"),
        ("public_key", KEY[:-2] + "g0", "KEY_NOT_HEX"),
        ("public_key", KEY[:2] + " " + KEY[2:], "KEY_NOT_HEX"),
        ("public_key", "", "KEY_LENGTH"),
        ("public_key", KEY[:-2], "KEY_LENGTH"),
        ("message", "abc", "MESSAGE_NOT_HEX"),
        ("message", "no hex", "MESSAGE_NOT_HEX"),
        ("signature", SIGNATURE + "0", "SIGNATURE_NOT_HEX"),
        ("signature", SIGNATURE + "\n", "SIGNATURE_NOT_HEX"),
        ("signature", "٣" * 128, "SIGNATURE_NOT_HEX"),
        ("signature", "", "SIGNATURE_LENGTH"),
        ("signature", [], "SIGNATURE_LENGTH"),
    ],
)
def test_a_malformed_part_is_a_refusal_with_a_reason(run: Run, field: str, value: object, reason: str) -> None:
    assert judged(run([{**GOOD, field: value, "valid": False}], "--json")) == [("refuse", reason, True)]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([{**GOOD, "public_key": 7}], "case 0 (#0): field `publickey` is 7; it holds hex, or a list of bytes"),
        ([GOOD, {**GOOD, "name": "n", "signature": [256]}], "case 1 (n): field `signature` is a list"),
        ({"vectors": [{**GOOD, "message": {}}]}, "vectors/0 (#0): field `message` is an object"),
        ([{"public_key": KEY, "message": ""}], "case 0 (#0): no signature"),
        ([{"public_key": KEY, "message": "", "r": R}], "case 0 (#0): no signature"),
        ([{"public_key": KEY, "signature": SIGNATURE}], "case 0 (#0): no message"),
        ([{"message": "", "signature": SIGNATURE}], "case 0 (#0): no public key"),
        ([GOOD, 5], "case 1: a case is an object, not 5"),
        ([[KEY, SIGNATURE]], "case 0: a case is an object, not a list"),
        ({"testGroups": [{"key": {"pk": KEY}}]}, "testGroups/0: a group is an object with a list `tests`"),
        ({"testGroups": [7]}, "testGroups/0: a group is an object with a list `tests`"),
        (
            {"testGroups": [{"tests": [{"tcId": 9, "msg": "", "sig": ""}]}]},
            "testGroups/0/tests/0 (tcId 9): no public key",
        ),
        ({"vectors": {}}, "neither a list of cases nor an object with a list"),
        (7, "neither a list of cases nor an object with a list"),
        ([], "no Ed25519 cases"),
        (
            {"testGroups": [{"key": {"curve": "edwards448"}, "tests": [{}, {}]}]},
            "no Ed25519 cases, 2 of other algorithms",
        ),
        pytest.param(b"{", "not JSON", id="unclosed"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b'["\xff"]', "not JSON", id="not utf-8"),
        pytest.param(b"[" * 100_000, "not JSON", id="too deep"),
        pytest.param(gzip.compress(b"[]")[:-6], "cannot be read", id="gzip cut short"),
        pytest.param(b"\x1f\x8b\x08" + b"\xff" * 40, "cannot be read", id="not gzip"),
    ],
)
def test_a_file_that_cannot_be_read_as_cases_is_an_error_that_names_the_place(
    run: Run, document: object, said: str
) -> None:
    result = run(document)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(verify_vectors, [str(tmp_path / "none.json")]).exit_code == 2
    assert CliRunner().invoke(verify_vectors, [str(tmp_path)]).exit_code == 2


SCALARS: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 7, -1, 0.5, "", "ab", "abc", "valid", KEY, MESSAGE, SIGNATURE]
)
PARTS = ["public_key", "pk", "key", "A", "R", "S", "message", "msg", "signature", "sig"]
REMARKS = ["valid", "result", "expected", "reason", "flags", "name", "comment", "context", "curve", "preHash"]
FIELDS = st.sampled_from([*PARTS, *REMARKS, "testGroups", "tests", "vectors", "publicKey"])
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=6), max_leaves=25
)


@settings(max_examples=300 * TEST_SIZE, deadline=None)
@given(document=DOCUMENTS)
def test_any_json_is_read_as_cases_or_refused_with_the_one_error(
    tmp_path_factory: pytest.TempPathFactory, document: object
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(document))
    try:
        corpus = read_corpus(file)
    except CorpusError:
        return
    assert corpus.cases

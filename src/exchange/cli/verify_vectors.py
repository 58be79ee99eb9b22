"""`clob verify-vectors`: public and own corpora of Ed25519 cases, judged by the verification rule.

A file is read into cases, every case is judged alone, and what the file expects is compared. The file's shape is read
off each case, since public corpora agree on nothing but the three parts of a case.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from exchange.reference.signing import KeyRefusal, SignatureRefusal, verify_case

_Object = Mapping[str, Any]
"""A JSON object with its names lowered and stripped of '_' and '-'."""

_CASE_LISTS: Final = ("vectors", "testvectors", "tests", "cases")
_KEY_FIELDS: Final = ("publickey", "pk", "pubkey", "pub", "vk", "vkbytes", "vkhex", "verificationkey", "q", "a", "key")
_MESSAGE_FIELDS: Final = ("message", "msg", "m")
_SIGNATURE_FIELDS: Final = ("signature", "sig", "sigbytes", "sighex")
_EXPECTATION_FIELDS: Final = ("expected", "valid", "result", "testpassed")
_ZIP215_KEY_FIELDS: Final = ("vkbytes", "vkhex")
_ZIP215_MESSAGE: Final = b"Zcash"
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_NAME_FIELDS: Final = ("name", "tcid", "number", "id")

_CCTV_FLAGS: Final = frozenset(
    {
        "lowordera",
        "loworderr",
        "noncanonicala",
        "noncanonicalr",
        "lowordercomponenta",
        "lowordercomponentr",
        "loworderresidue",
        "reencodedk",
    }
)
"""Flags of C2SP/CCTV. Under the rule each of them alone means refuse: the first two pairs are named in it; a key with a
component of low order is not in the prime-order subgroup; such a component in R, under a key without, is a residue;
with a residue the equation does not hold without the cofactor; and k is re-encoded for non-canonical points only."""

_ACCEPTING: Final = frozenset({"accept", "accepted", "valid", "true", "pass", "passed"})
_REFUSING: Final = frozenset({"refuse", "refused", "reject", "rejected", "invalid", "false", "fail", "failed"})


class Verdict(StrEnum):
    ACCEPT = "accept"
    REFUSE = "refuse"


class Malformed(StrEnum):
    """Why a case is refused before the rule is asked: a part is text, but not hex with two digits per byte."""

    KEY_NOT_HEX = "KEY_NOT_HEX"
    MESSAGE_NOT_HEX = "MESSAGE_NOT_HEX"
    SIGNATURE_NOT_HEX = "SIGNATURE_NOT_HEX"


class CorpusError(click.ClickException):
    """The file cannot be read as cases; the message names the case and the field. Exit status 2."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A raw case; a part that is not hex is None. `expected` is None where the file says nothing, or 'acceptable'."""

    name: str
    comment: str
    public_key: bytes | None
    message: bytes | None
    signature: bytes | None
    expected: Verdict | None
    expected_reason: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A case with its verdict. `agrees` is None where the file expects nothing."""

    case: Case
    verdict: Verdict
    reason: KeyRefusal | SignatureRefusal | Malformed | None
    agrees: bool | None


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a file holds: the cases in file order, and how many it has of other algorithms (Ed448, Ed25519ph, ...)."""

    cases: Sequence[Case]
    skipped: int


@click.command("verify-vectors")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
def verify_vectors(file: Path, as_json: bool) -> None:
    """Judge the Ed25519 cases in FILE, JSON or gzipped JSON, by the exchange's verification rule.

    \b
    The rule, and the reasons of a refusal in the order in which they are found:
      public key  32 bytes (KEY_LENGTH), canonical (KEY_NON_CANONICAL), not of
                  order 1, 2, 4, 8 (KEY_SMALL_ORDER), on the curve
                  (KEY_OFF_CURVE), in the prime-order subgroup (KEY_MIXED_ORDER)
      signature   64 bytes R and S (SIGNATURE_LENGTH), S < L (S_NOT_REDUCED),
                  R canonical (R_NON_CANONICAL), not of order 1, 2, 4, 8
                  (R_SMALL_ORDER), S B = R + k A without cofactor (EQUATION)
      Text that is not hex is refused: KEY_NOT_HEX, MESSAGE_NOT_HEX,
      SIGNATURE_NOT_HEX.

    \b
    FILE is {"vectors": [CASE, ...]} or [CASE, ...]. A CASE is
      {"name": "...", "comment": "...", "public_key": HEX, "message": HEX,
       "signature": HEX, "expected": "accept" | "refuse", "reason": REASON}
    of which the three parts must be there; a reason beside "refuse" is
    compared too. Names of fields are read without regard to case, '_' and
    '-', and may also be
      key        pk, pubKey, pub, vk, vk_bytes, verification_key, q, A, key
      message    msg, M
      signature  sig, sig_bytes, or the two fields R and S
      expected   valid, result, testPassed: true, "valid", "accept", "pass" ...
                 or false, "invalid", "refuse", "fail" ...; "acceptable" and
                 null expect nothing
    Hex may start with 0x; a part may be a list of byte values instead.

    \b
    Public corpora that this covers:
      Project Wycheproof, old and new (testGroups, key.pk or publicKey.pk)
      NIST ACVP EDDSA sigVer (q, testPassed)
      speccheck of "Taming the many EdDSAs" (expects nothing)
      C2SP/CCTV ed25519vectors, old and new (flags and no expectation): the
        message is text; a flag means refuse, no flag means accept
      ZIP-215 (vk_bytes, sig_bytes): without a message it is "Zcash";
        valid_legacy and valid_zip215 are of other rules and not compared
    Groups of Ed448, and cases of Ed25519ph or Ed25519ctx, are counted as
    skipped.

    Exit status: 0; 1 if a verdict, or a reason, is not the expected one; 2 if FILE cannot be read as cases.
    """  # noqa: D301 - click takes the backspace itself as the mark of a paragraph that is not to be wrapped
    corpus = read_corpus(file)
    judged = [judge(case) for case in corpus.cases]
    summary = _summary_of(judged, corpus.skipped)
    if as_json:
        document = {"file": str(file), "cases": [_as_json(one) for one in judged], "summary": summary}
        click.echo(json.dumps(document, indent=2))
    else:
        for one in judged:
            click.echo(_line_of(one))
        click.echo(_summary_lines(summary))
    if summary["differ"]:
        raise click.exceptions.Exit(1)


def judge(case: Case) -> Judged:
    """Return the verdict of the rule on a case, and whether the file expects it, with the reason if it gives one."""
    reason: KeyRefusal | SignatureRefusal | Malformed | None
    if case.public_key is None:
        reason = Malformed.KEY_NOT_HEX
    elif case.message is None:
        reason = Malformed.MESSAGE_NOT_HEX
    elif case.signature is None:
        reason = Malformed.SIGNATURE_NOT_HEX
    else:
        reason = verify_case(case.public_key, case.message, case.signature)
    verdict = Verdict.ACCEPT if reason is None else Verdict.REFUSE
    agrees = None
    if case.expected is not None:
        agrees = verdict == case.expected and case.expected_reason in {None, reason}
    return Judged(case, verdict, reason, agrees)


def read_corpus(file: Path) -> Corpus:
    """Return the cases of a file in any of the shapes that `clob verify-vectors --help` lists.

    Raises:
        CorpusError: it is not JSON, or has no cases where one of the shapes has them, or a case lacks a part.
    """
    try:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        document = msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"))
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{file}: cannot be read: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorpusError(f"{file}: not JSON: {error}") from error
    cases = list(_cases_of(document))
    read = [case for case in cases if case is not None]
    if not read:
        raise CorpusError(f"{file}: no Ed25519 cases, {len(cases)} of other algorithms; see clob verify-vectors --help")
    return Corpus(read, len(cases) - len(read))


def _cases_of(document: object) -> Iterator[Case | None]:
    """Yield the cases in file order, None for one of another algorithm."""
    if isinstance(document, list):
        yield from _cases_in(document, "case ", None)
        return
    if isinstance(document, dict):
        top = _normalized(document)
        if isinstance(top.get("testgroups"), list):
            for number, group in enumerate(top["testgroups"]):
                yield from _cases_in_group(group, number)
            return
        for field in _CASE_LISTS:
            if isinstance(top.get(field), list):
                yield from _cases_in(top[field], f"{field}/", None)
                return
    raise CorpusError(
        "the file is neither a list of cases nor an object with a list `vectors`, `tests`, `cases` or `testGroups`; "
        "see clob verify-vectors --help"
    )


def _cases_in_group(group: object, number: int) -> Iterator[Case | None]:
    """Yield the cases of a group of Wycheproof or ACVP, whose key may stand in the group."""
    where = f"testGroups/{number}"
    if not isinstance(group, dict) or not isinstance((fields := _normalized(group)).get("tests"), list):
        raise CorpusError(f"{where}: a group is an object with a list `tests`")
    curve, key = fields.get("curve"), None
    for holder in (fields.get("publickey"), fields.get("key")):
        if isinstance(holder, dict):
            curve = curve or holder.get("curve")
            key = key or holder.get("pk")
    if (isinstance(curve, str) and "25519" not in curve) or fields.get("prehash") is True:
        yield from (None for _ in fields["tests"])
    else:
        yield from _cases_in(fields["tests"], f"{where}/tests/", key)


def _cases_in(cases: Sequence[object], where: str, group_key: object) -> Iterator[Case | None]:
    """Yield the cases of a list; those without a key of their own have the group's, where there is one."""
    read: list[_Object] = []
    for number, case in enumerate(cases):
        if not isinstance(case, dict):
            raise CorpusError(f"{where}{number}: a case is an object, not {_shown(case)}")
        fields = _normalized(case)
        if _first_of(fields, _KEY_FIELDS) is None:
            fields["publickey"] = group_key
        read.append(fields)
    is_cctv = _are_cctv(read)
    for number, case_fields in enumerate(read):
        if _is_of_another_algorithm(case_fields):
            yield None
        else:
            yield _case_of(case_fields, number, where, is_cctv=is_cctv)


def _is_of_another_algorithm(fields: _Object) -> bool:
    """Return whether it is Ed25519ph, or Ed25519ctx with its context in hex (RFC 8032, section 5.1)."""
    context = fields.get("context") or fields.get("ctx") or None
    return fields.get("prehash") is True or (isinstance(context, str) and _HEX.fullmatch(context) is not None)


def _are_cctv(cases: Sequence[_Object]) -> bool:
    """Return whether all cases have flags and no expectation, and CCTV knows one of the flags."""
    return all("flags" in fields and _first_of(fields, _EXPECTATION_FIELDS) is None for fields in cases) and any(
        _CCTV_FLAGS & _flags_of(fields) for fields in cases
    )


def _flags_of(fields: _Object) -> set[str]:
    flags = fields.get("flags")
    return {str(flag).lower().replace("_", "") for flag in flags} if isinstance(flags, list) else set()


def _case_of(fields: _Object, number: int, where: str, *, is_cctv: bool) -> Case:
    name = _name_of(fields, number)
    where = f"{where}{number} ({name})"
    expected = _expected_by_flags(fields) if is_cctv else _expected_in(fields, where)
    # Other corpora may have a field `reason` that explains the case in words.
    reason = fields.get("reason") if str(fields.get("expected")).lower() == Verdict.REFUSE else None
    return Case(
        name=name,
        comment=_one_line(fields.get("comment") or fields.get("desc") or ""),
        public_key=_key_in(fields, where),
        message=_message_in(fields, where, as_text=is_cctv),
        signature=_signature_in(fields, where),
        expected=expected,
        expected_reason=str(reason) if reason else None,
    )


def _normalized(json_object: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower().replace("_", "").replace("-", ""): value for name, value in json_object.items()}


def _name_of(fields: _Object, number: int) -> str:
    for field in _NAME_FIELDS:
        if isinstance(fields.get(field), str | int):
            name = _one_line(fields[field])
            return f"tcId {name}" if field == "tcid" else name
    return f"#{number}"


def _expected_in(fields: _Object, where: str) -> Verdict | None:
    """Return the verdict that a field states, or None where none does, or where it says 'acceptable'."""
    field = _first_of(fields, _EXPECTATION_FIELDS)
    if field is None:
        return None
    word = str(fields[field]).lower() if isinstance(fields[field], str | bool) else ""
    if word in _ACCEPTING:
        return Verdict.ACCEPT
    if word in _REFUSING:
        return Verdict.REFUSE
    if word == "acceptable":
        return None
    raise CorpusError(f'{where}: field `{field}` is {_shown(fields[field])}; it says "accept" or "refuse"')


def _expected_by_flags(fields: _Object) -> Verdict | None:
    """Return what the flags of CCTV mean under the rule, or None where one of them is not known."""
    flags = _flags_of(fields)
    if not flags <= _CCTV_FLAGS:
        return None
    return Verdict.REFUSE if flags else Verdict.ACCEPT


def _key_in(fields: _Object, where: str) -> bytes | None:
    field = _first_of(fields, _KEY_FIELDS)
    if field is None:
        raise CorpusError(f"{where}: no public key: it is in a field `public_key`; see clob verify-vectors --help")
    value = fields[field]
    if isinstance(value, dict) and value.get("pk") is not None:
        value = value["pk"]
    return _bytes_of(value, field, where)


def _message_in(fields: _Object, where: str, *, as_text: bool) -> bytes | None:
    field = _first_of(fields, _MESSAGE_FIELDS)
    if field is None:
        if _first_of(fields, _ZIP215_KEY_FIELDS) is not None:
            return _ZIP215_MESSAGE
        raise CorpusError(f"{where}: no message: it is in a field `message`; see clob verify-vectors --help")
    value = fields[field]
    if as_text and isinstance(value, str):
        return value.encode()
    return _bytes_of(value, field, where)


def _signature_in(fields: _Object, where: str) -> bytes | None:
    field = _first_of(fields, _SIGNATURE_FIELDS)
    if field is not None:
        return _bytes_of(fields[field], field, where)
    if _first_of(fields, ("r",)) is None or _first_of(fields, ("s",)) is None:
        raise CorpusError(f"{where}: no signature: it is in a field `signature`; see clob verify-vectors --help")
    r, s = _bytes_of(fields["r"], "r", where), _bytes_of(fields["s"], "s", where)
    return None if r is None or s is None else r + s


def _first_of(fields: _Object, names: Sequence[str]) -> str | None:
    return next((name for name in names if fields.get(name) is not None), None)


def _bytes_of(value: object, field: str, where: str) -> bytes | None:
    """Return the bytes of hex or of a list of byte values, or None for text that is not hex."""
    if isinstance(value, list) and all(type(one) is int and 0 <= one <= 255 for one in value):
        return bytes(value)
    if not isinstance(value, str):
        raise CorpusError(f"{where}: field `{field}` is {_shown(value)}; it holds hex, or a list of bytes")
    digits = value.removeprefix("0x")
    return bytes.fromhex(digits) if _HEX.fullmatch(digits) else None


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _one_line(value: object) -> str:
    """Return text that moves no cursor and starts no line."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())


def _summary_of(judged: Sequence[Judged], skipped: int) -> dict[str, Any]:
    """Return the counts; reasons come most frequent first."""
    reasons = Counter(str(one.reason) for one in judged if one.reason is not None)
    return {
        "cases": len(judged),
        "accepted": sum(one.verdict is Verdict.ACCEPT for one in judged),
        "refused": sum(one.verdict is Verdict.REFUSE for one in judged),
        "refused_by_reason": dict(reasons.most_common()),
        "agreed": sum(one.agrees is True for one in judged),
        "differ": sum(one.agrees is False for one in judged),
        "nothing_expected": sum(one.agrees is None for one in judged),
        "skipped": skipped,
    }


def _as_json(one: Judged) -> dict[str, Any]:
    return {
        "name": one.case.name,
        "verdict": one.verdict,
        "reason": one.reason,
        "expected": one.case.expected,
        "expected_reason": one.case.expected_reason,
        "agrees": one.agrees,
        "comment": one.case.comment,
    }


_MARKS: Final = {True: "agreed ", False: "DIFFERS", None: "-      "}


def _line_of(one: Judged) -> str:
    verdict = f"{one.verdict} {one.reason or ''}"
    text = f"{_MARKS[one.agrees]}  {verdict:<24}  {one.case.name}"
    if one.case.comment:
        text += f": {one.case.comment}"
    if one.agrees is False:
        text += f" [expected {' '.join(filter(None, (one.case.expected, one.case.expected_reason)))}]"
    return text


def _summary_lines(summary: Mapping[str, Any]) -> str:
    lines = [
        "",
        f"cases     {summary['cases']:>6}",
        f"accepted  {summary['accepted']:>6}",
        f"refused   {summary['refused']:>6}",
        *(f"  {count:>14}  {reason}" for reason, count in summary["refused_by_reason"].items()),
    ]
    if summary["agreed"] or summary["differ"]:
        lines += [f"agreed    {summary['agreed']:>6}", f"differ    {summary['differ']:>6}"]
    if summary["nothing_expected"]:
        lines.append(f"unstated  {summary['nothing_expected']:>6}  (the file does not say what to expect)")
    if summary["skipped"]:
        lines.append(f"skipped   {summary['skipped']:>6}  (of another algorithm)")
    return "\n".join(lines)

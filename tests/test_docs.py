"""What the pages say is so: invariants, reasons, links."""

import re
from pathlib import Path

import pytest

from exchange.domain.invariants import INVARIANTS
from exchange.domain.rejects import RejectReason

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def test_architecture_lists_every_invariant_in_its_own_words() -> None:
    listed = dict(re.findall(r"^\| (I-\d\d) \| (.+) \|$", ARCHITECTURE, re.MULTILINE))
    assert listed == INVARIANTS


@pytest.mark.parametrize("reason", RejectReason, ids=lambda reason: reason.name)
def test_architecture_gives_every_reason_its_place(reason: RejectReason) -> None:
    order_of_rules = ARCHITECTURE.split(" The rules and their order\n")[1].split("\n## ")[0]
    assert re.search(rf"\b{reason.name}\b", order_of_rules)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_resolves(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []

"""How a rule says no."""

from exchange.domain.rejects import RejectReason


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """A rule is broken; nothing was changed."""

    def __init__(self, reason: RejectReason, required_units: int = 0, available_units: int = 0, asset: int = 0) -> None:
        super().__init__(reason.name)
        self.reason = reason
        self.required_units = required_units
        self.available_units = available_units
        self.asset = asset


def require(rule: bool, reason: RejectReason) -> None:
    """Refuse unless the rule holds."""
    if not rule:
        raise Refused(reason)

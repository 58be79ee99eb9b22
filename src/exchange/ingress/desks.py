"""Which desk a worker has: the core's where it is built, the one in Python elsewhere. They say the same."""

from exchange.engine.choice import DEFAULT_ENGINE
from exchange.ingress.desk import Desk
from exchange.ingress.submissions import Submissions

DESK: type[Desk] = Submissions

if DEFAULT_ENGINE == "core":
    from exchange.ingress.core_submissions import CoreSubmissions

    DESK = CoreSubmissions

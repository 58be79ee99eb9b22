"""Durability: what the server behind the bus must be set to, so that an answer stands for what the environment says."""

from exchange.bus.entries import ServerInfo


def durability_refusal(server: ServerInfo, durability: str) -> str | None:
    """Return why nobody may write through this server, and what to do; None: one may.

    Args:
        server: what is known of it.
        durability: "memory" or "fsync".
    """
    if server.maxmemory_policy != "noeviction":
        return (
            f"BUS_EVICTS: the bus has maxmemory-policy {server.maxmemory_policy or 'unknown'}, which may throw away "
            "entries; start it with --maxmemory-policy noeviction"
        )
    if durability == "fsync" and (server.appendonly, server.appendfsync) != ("yes", "always"):
        return (
            f"BUS_NOT_DURABLE: durability fsync needs appendonly yes and appendfsync always, the bus has appendonly "
            f"{server.appendonly or 'unknown'} and appendfsync {server.appendfsync or 'unknown'}; start it with "
            "--appendonly yes --appendfsync always, or make the environment one of durability memory"
        )
    return None

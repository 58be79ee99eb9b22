"""A central limit order book: the order path of an exchange, from a trader's signed order to settled money."""

import os

# Children are started by exec, never by fork alone; gRPC's handlers would only print a warning at each of them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

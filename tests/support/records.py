"""The records of all messages that are signed, hashed or checkpointed, by the name of the message."""

from exchange.domain.record import Record
from exchange.wire.codec import MessageCodec
from exchange.wire.messages import CODECS

RECORDS: dict[str, type[Record]] = {
    name: codec.record for name, codec in CODECS.items() if isinstance(codec, MessageCodec)
}

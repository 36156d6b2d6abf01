"""A process of the host that is no worker: publishes each line that it is given, says where."""

import sys

from lastcall import BrokerUnavailable, Publisher

with Publisher(timeout=float(sys.argv[1])) as publisher:
    for line in sys.stdin:
        word = line.strip()
        try:
            position = publisher.publish_sync("ws", word, idempotency_key=word)
        except BrokerUnavailable as error:
            sys.stdout.write(f"failed {error}\n")
        else:
            sys.stdout.write(f"{position.offset}\n")
        sys.stdout.flush()

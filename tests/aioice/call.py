"""Two aioice agents talk to each other by the relay alone.

Run as: call.py udp|tcp|tls HOST PORT, with TURN_USERNAME and TURN_CREDENTIAL in the environment.
"""

import asyncio
import os
import sys

from aioice import Connection, TransportPolicy

MESSAGES = 200
# Seconds for everything.
PATIENCE = 30


def agent(transport: str, host: str, port: int, *, leads: bool) -> Connection:
    return Connection(
        ice_controlling=leads,
        turn_server=(host, port),
        turn_username=os.environ["TURN_USERNAME"],
        turn_password=os.environ["TURN_CREDENTIAL"],
        turn_ssl=transport == "tls",
        turn_transport="udp" if transport == "udp" else "tcp",
        transport_policy=TransportPolicy.RELAY,
    )


async def introduce(one: Connection, other: Connection) -> None:
    for candidate in one.local_candidates:
        assert candidate.type == "relay", candidate
        await other.add_remote_candidate(candidate)
    await other.add_remote_candidate(None)
    other.remote_username, other.remote_password = one.local_username, one.local_password


async def call(transport: str, host: str, port: int) -> None:
    anna, bo = (agent(transport, host, port, leads=leads) for leads in (True, False))
    await asyncio.gather(anna.gather_candidates(), bo.gather_candidates())
    assert anna.local_candidates and bo.local_candidates, "no relay"
    await introduce(anna, bo)
    await introduce(bo, anna)
    await asyncio.gather(anna.connect(), bo.connect())
    for number in range(MESSAGES):
        # Lengths up to a full packet, those that need padding among them. No STUN message begins like this.
        payload = b"\xff" + number.to_bytes(2, "big") * (1 + 3 * number) + b"x" * (number % 4)
        for sender, receiver in ((anna, bo), (bo, anna)):
            await sender.send(payload)
            assert await receiver.recv() == payload, number
    await asyncio.gather(anna.close(), bo.close())


asyncio.run(asyncio.wait_for(call(sys.argv[1], sys.argv[2], int(sys.argv[3])), PATIENCE))
print(f"passed: {MESSAGES} messages each way by {sys.argv[1]}")

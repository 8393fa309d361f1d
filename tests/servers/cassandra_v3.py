"""Lets a client of protocol v4 speak with a Cassandra of protocol v3. usage: cassandra_v3.py PORT CASSANDRA_PORT

The two differ in the version's number, and in the answer to PREPARE, which in v4 tells the partition key's columns as well;
none of them may be told. The version of CQL in STARTUP is one that it knows. What it does not know is a node's address in
`system.local`: some number is asked for instead, and 127.0.0.1 is put in its place.
"""
import asyncio
import re
import struct
import sys

STARTUP, QUERY, RESULT, PREPARE, ROWS, PREPARED = 1, 7, 8, 9, b"\0\0\0\2", b"\0\0\0\4"
ADDRESS = b"blobAsInet(intAsBlob(gossip_generation)) AS rpc_address"


def as_v3(opcode, body):
    if opcode == STARTUP:
        return body.replace(b"4.0.0", b"3.2.0", 1)
    if opcode in (QUERY, PREPARE) and b" FROM system.local" in body:
        end = 4 + struct.unpack(">I", body[:4])[0]
        text = body[4:end].replace(b"rpc_address", ADDRESS)
        return struct.pack(">I", len(text)) + text + body[end:]
    return body


def as_v4(opcode, body):
    if opcode == RESULT and body[:4] == PREPARED:
        columns = 6 + struct.unpack(">H", body[4:6])[0] + 8  # kind, id, flags, number of columns
        return body[:columns] + b"\0\0\0\0" + body[columns:]
    if opcode == RESULT and body[:4] == ROWS and b"\5local" in body and b"rpc_address" in body:
        # It stands after host_id.
        after = rb"(\x00{3}\x10.{16}\x00{3}\x04).{4}"
        return re.sub(after, lambda found: found[1] + b"\x7f\0\0\1", body, count=1, flags=re.DOTALL)
    return body


async def pump(source, sink, version, change):
    try:
        while True:
            _, flags, stream, opcode, length = struct.unpack(">BBHBI", await source.readexactly(9))
            body = change(opcode, await source.readexactly(length))
            sink.write(struct.pack(">BBHBI", version, flags, stream, opcode, len(body)) + body)
            await sink.drain()
    except (asyncio.IncompleteReadError, OSError):
        sink.close()


async def serve(source, sink):
    try:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        sink.close()
        return
    await asyncio.gather(pump(source, to_server, 3, as_v3), pump(from_server, sink, 0x84, as_v4))


async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()


asyncio.run(main())

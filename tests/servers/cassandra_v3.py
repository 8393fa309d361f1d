"""Lets a client of protocol v4 speak with a Cassandra of protocol v3. usage: cassandra_v3.py PORT CASSANDRA_PORT

The two differ in the version's number, and in the answer to PREPARE, which in v4 tells the partition key's columns as well;
none of them may be told.
"""
import asyncio
import struct
import sys

RESULT, PREPARED = 8, 4


def as_v4(opcode, body):
    if opcode == RESULT and body[:4] == struct.pack(">i", PREPARED):
        columns = 6 + struct.unpack(">H", body[4:6])[0] + 8  # kind, id, flags, number of columns
        return body[:columns] + struct.pack(">i", 0) + body[columns:]
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
    await asyncio.gather(
        pump(source, to_server, 3, lambda _, body: body), pump(from_server, sink, 0x84, as_v4)
    )


async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()


asyncio.run(main())

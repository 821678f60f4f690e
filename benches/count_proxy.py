#!/usr/bin/env python3
"""usage: count_proxy.py HOST:PORT COUNTS
  Forwards a free port of loopback, which it prints, to HOST:PORT, and keeps COUNTS up to date: bytes up, bytes down."""
import asyncio
import os
import sys

PIECE = 64 * 1024
counts = [0, 0]


def note(path):
    with open(path + ".new", "w") as out:
        out.write(f"{counts[0]} {counts[1]}\n")
    os.replace(path + ".new", path)


async def copy(reader, writer, which):
    try:
        while data := await reader.read(PIECE):
            counts[which] += len(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main():
    host, port = sys.argv[1].rsplit(":", 1)

    async def join(reader, writer):
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port), limit=PIECE)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, upstream_writer, 0), copy(upstream_reader, writer, 1))

    server = await asyncio.start_server(join, "127.0.0.1", 0, limit=PIECE)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        note(sys.argv[2])
        await asyncio.sleep(0.01)


asyncio.run(main())

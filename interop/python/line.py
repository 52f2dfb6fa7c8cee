"""A relay between one client and one server that can be cut, reset or frozen, and that counts HTTP/2 frames.

Used by the scenes. Nothing here checks anything.
"""

import collections
import contextlib
import socket
import struct
import threading

DATA, PING, GOAWAY = 0, 6, 7
ACK = 1
PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


class Line:
    """Takes one connection; dialling again must not resurrect a line that was cut."""

    def __init__(self, address: str, cut_after: int = -1, reset: bool = False):
        """Cuts after so many bytes from the server, in the middle of whatever they are; below 0: never."""
        host, port = address.rsplit(":", 1)
        self.server_address = (host, int(port))
        self.bytes_left = cut_after
        self.reset = reset
        self.up, self.down = Frames(PREFACE), Frames(0)
        self.frozen = threading.Event()
        self.closed = threading.Event()
        self.ends = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self):
        """From now on nothing passes, and nobody is told."""
        self.frozen.set()

    def close(self):
        self.closed.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # ends a waiting accept
        self.listener.close()
        self._cut()

    def _accept(self):
        try:
            client, _ = self.listener.accept()
        except OSError:  # closed before anybody came
            return
        self.listener.close()
        server = socket.create_connection(self.server_address)
        self.ends = [client, server]
        for end in self.ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._pass, args=(client, server, self.up), daemon=True).start()
        self._pass(server, client, self.down)

    def _pass(self, source, sink, frames):
        limited = frames is self.down
        with contextlib.suppress(OSError):
            while data := source.recv(self._room(limited)):
                if self.frozen.is_set():
                    self.closed.wait()
                    return
                frames.count(data)
                sink.sendall(data)
                if limited and self.bytes_left > 0:
                    self.bytes_left -= len(data)
                    if self.bytes_left == 0:
                        break
        if not self.frozen.is_set():
            self._cut()

    def _room(self, limited: bool) -> int:
        return min(65536, self.bytes_left) if limited and self.bytes_left > 0 else 65536

    def _cut(self):
        for end in self.ends:
            with contextlib.suppress(OSError):
                # Either way a thread that waits to read is woken; closing without lingering then sends RST in place of FIN.
                end.shutdown(socket.SHUT_RD if self.reset else socket.SHUT_RDWR)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(self.reset), 0))
            end.close()


class Frames:
    """Counts the HTTP/2 frames of one direction by their type, acknowledged pings apart."""

    def __init__(self, skip: int):
        self.counts = collections.Counter()
        self.skip = skip
        self.head = b""

    def count(self, data: bytes):
        while data:
            if self.skip:
                passed = min(self.skip, len(data))
                self.skip -= passed
                data = data[passed:]
                continue
            wanted = 9 - len(self.head)
            self.head, data = self.head + data[:wanted], data[wanted:]
            if len(self.head) == 9:
                length, kind, flags = int.from_bytes(self.head[:3], "big"), self.head[3], self.head[4]
                if kind != PING or not flags & ACK:
                    self.counts[kind] += 1
                self.skip, self.head = length, b""

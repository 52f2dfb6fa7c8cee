"""How readers in Python tell what they were handed: one JSON line each. The ways are their arguments, `NAME=URL`."""

import json
import sys
import threading


_telling = threading.Lock()


def tell(way: str, type: str, data: str):
    with _telling:
        print(json.dumps({"way": way, "type": type, "data": data}), flush=True)


def on_all_ways(read):
    """Reads every way in a thread of its own, until this process is ended."""
    ways = [argument.split("=", 1) for argument in sys.argv[1:]]
    threads = [threading.Thread(target=read, args=way, daemon=True) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

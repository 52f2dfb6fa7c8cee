"""Plays every scene against a real hub and prints which of them passed.

Called by `cargo xtask interop python`, which knows where everything is. Exits 1 if a scene failed.
"""

import argparse
import pathlib
import sys
import time
import traceback

import scenes
from peer import Contract


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the galaxy-push binary")
    parser.add_argument("--proto", type=pathlib.Path, required=True, help="the folder that holds push/v1/push.proto")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where generated code and logs go")
    parser.add_argument("--only", default="", help="only scenes whose name contains this")
    arguments = parser.parse_args()

    arguments.work.mkdir(parents=True, exist_ok=True)
    contract = Contract(arguments.proto, arguments.work)
    chosen = [scene for scene in scenes.SCENES if arguments.only in scene.__name__]
    if not chosen:
        print(f"no scene is called {arguments.only!r}", file=sys.stderr)
        return 1

    failed = 0
    width = max(len(scene.__name__) for scene in chosen)
    for scene in chosen:
        log = arguments.work / f"{scene.__name__}.log"
        log.unlink(missing_ok=True)
        start = time.monotonic()
        stage = scenes.Stage(contract, arguments.binary, log)
        try:
            scene(stage)
            outcome = "pass"
        except Exception:
            failed += 1
            outcome = "FAIL"
            traceback.print_exc()
            print(f"the hub's log is {log}", file=sys.stderr)
        finally:
            stage.close()
        print(f"{outcome}  {scene.__name__:<{width}}  {time.monotonic() - start:5.2f} s  {scene.__doc__.splitlines()[0]}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} scenes passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

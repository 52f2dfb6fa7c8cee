"""Plays every scene and prints which of them passed.

Called by `cargo xtask interop python`, which knows where everything is. Exits 1 if a scene failed.
"""

import argparse
import concurrent.futures
import pathlib
import sys
import time
import traceback

import scene_list
from client import resuming, taking, waiting
from client.stage import ClientStage
from contract import Contract
from scenes import around, calls, fencing, lines, publishing, readers, reading
from stage import Stage

# Most scenes wait for a timer or for the other side, so more of them run at a time than there are cores.
AT_A_TIME = 8

PEER_SCENES = [scene for module in [reading, lines, fencing, calls, publishing, readers, around] for scene in module.SCENES]
CLIENT_SCENES = [scene for module in [resuming, waiting, taking] for scene in module.SCENES]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the galaxy-push binary")
    parser.add_argument("--proto", type=pathlib.Path, required=True, help="the folder that holds push/v1/push.proto")
    parser.add_argument("--scenes", type=pathlib.Path, required=True, help="the list of scenes, SCENES.md")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where generated code and logs go")
    parser.add_argument("--only", default="", help="only scenes whose name contains this")
    parser.add_argument("--long", action="store_true", help="also the scenes that take more than a minute")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    asked.work.mkdir(parents=True, exist_ok=True)
    contract = Contract(asked.proto, asked.work)
    peer = scene_list.paired(PEER_SCENES, scene_list.meanings(asked.scenes, scene_list.PEER))
    client = scene_list.paired(CLIENT_SCENES, scene_list.meanings(asked.scenes, scene_list.CLIENT))
    if not asked.long:
        client = [scene for scene in client if scene[1] not in waiting.LONG]
    # Our client's scenes first: they are the ones that wait.
    chosen = [(ClientStage, *scene) for scene in client] + [(Stage, *scene) for scene in peer]
    chosen = [scene for scene in chosen if asked.only in scene[1]]
    if not chosen:
        print(f"no scene is called {asked.only!r}", file=sys.stderr)
        return 1

    width = max(len(scene[1]) for scene in chosen)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as players:
        plays = [players.submit(play, contract, asked, width, *scene) for scene in chosen]
        passed = [each.result() for each in concurrent.futures.as_completed(plays)].count(True)
    print(f"{passed} of {len(chosen)} scenes passed in {time.monotonic() - start:.1f} s")
    return 0 if passed == len(chosen) else 1


def play(contract: Contract, asked, width: int, stage_type, name: str, scene, meaning: str) -> bool:
    """Plays one scene on a stage of its own and prints its line."""
    log = asked.work / f"{name}.log"
    log.unlink(missing_ok=True)
    start = time.monotonic()
    stage = stage_type(contract, asked.binary, log)
    outcome, trouble = "pass", ""
    try:
        note = scene(stage)
    except Exception:
        outcome, note = "FAIL", None
        trouble = f"{traceback.format_exc()}the log of the processes is {log}\n"
    finally:
        stage.close()
    shown = f"{meaning} [{note}]" if note else meaning
    print(f"{trouble}{outcome}  {name:<{width}}  {time.monotonic() - start:5.2f} s  {shown}", flush=True)
    return outcome == "pass"


if __name__ == "__main__":
    sys.exit(main())

"""The messages and stubs, generated from the proto, now, into a folder of their own.

Made once by run.py, and given to every stage.
"""

import pathlib
import sys

import grpc_tools.protoc


class Contract:
    """`messages` and `stubs` of push.v1."""

    def __init__(self, proto: pathlib.Path, work: pathlib.Path):
        generated = work / "generated"
        generated.mkdir(parents=True, exist_ok=True)
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={generated}", f"--grpc_python_out={generated}"]
        if grpc_tools.protoc.main([*arguments, str(proto / "push/v1/push.proto")]) != 0:
            raise RuntimeError("protoc refused the contract")
        sys.path.insert(0, str(generated))
        from push.v1 import push_pb2, push_pb2_grpc

        self.messages = push_pb2
        self.stubs = push_pb2_grpc

"""A protoc plugin that runs one of the generators built into grpc_tools, so that buf can use them without protoc.

Usage: protoc_gen_grpc_tools.py python|pyi|grpc_python, with a CodeGeneratorRequest on standard input and a
CodeGeneratorResponse on standard output (google/protobuf/compiler/plugin.proto).
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from grpc_tools import protoc


def generate(generator: str, request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Return what the built-in `generator` makes of the request's files, sorted by name, or the error it ended with."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as directory:
        descriptors = Path(directory, "descriptors.binpb")
        descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(directory, "out")
        out.mkdir()
        parameters = [f"--{generator}_opt={request.parameter}"] if request.parameter else []
        arguments = [f"--descriptor_set_in={descriptors}", f"--{generator}_out={out}", *parameters]
        status = protoc.main(["protoc", *arguments, *request.file_to_generate])
        if status != 0:
            response.error = f"grpc_tools.protoc ended with status {status} for {generator}; its message is above"
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text(encoding="utf-8"))
    return response


if __name__ == "__main__":
    answer = generate(sys.argv[1], plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.SerializeToString())

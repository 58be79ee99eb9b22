"""Reflection: how grpcurl and others learn what a port serves, in both versions that tools ask for."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import _async, reflection_pb2

V1: Final = "grpc.reflection.v1.ServerReflection"
V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
NAMES: Final = (V1, V1ALPHA)
_METHOD: Final = "ServerReflectionInfo"
_V1_FILE: Final = "grpc/reflection/v1/reflection.proto"


def add_reflection(server: Any, services: Iterable[str]) -> None:
    """Serve reflection v1 and v1alpha for services, and for itself.

    grpcio-reflection has v1alpha only. The messages of v1 are the same but for their package, so one servicer answers
    both; the descriptor of v1, which tools ask for when they call it, is made from that of v1alpha.
    """
    _describe_v1()
    servicer = _Servicer({*services, *NAMES})
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in NAMES:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {_METHOD: handler}),))


class _Servicer(_async.ReflectionServicer):  # type: ignore[misc]
    """Finds methods by name, too, as `grpcurl describe clob.v1.OrderService.Submit` asks for them."""

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        # protobuf's pool knows every symbol but methods.
        answer = super()._file_containing_symbol(request, fully_qualified_name)
        service, _, method = fully_qualified_name.rpartition(".")
        if answer.HasField("error_response") and service:
            try:
                found = self._pool.FindServiceByName(service)
            except KeyError:
                return answer
            if method in found.methods_by_name:
                answer = super()._file_containing_symbol(request, service)
        return answer


def _describe_v1() -> None:
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        pass
    else:
        return
    renamed = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(renamed)
    renamed.name = _V1_FILE
    renamed.package = V1.rpartition(".")[0]
    for message in renamed.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for service in renamed.service:
        for method in service.method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    pool.AddSerializedFile(renamed.SerializeToString())

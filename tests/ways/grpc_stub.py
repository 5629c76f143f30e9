"""gRPC stand-ins: Qdrant's points, Milvus, Weaviate's health and search, and an echo both ways."""

from concurrent import futures

import grpc
from qdrant_client.grpc import (
    PointId, QueryResponse, ScoredPoint,
)
from qdrant_client.grpc import points_service_pb2_grpc as qdrant_service

ASKED = []


class Points(qdrant_service.PointsServicer):
    def Query(self, request, context):
        ASKED.append(("qdrant", request.SerializeToString()))
        points = [ScoredPoint(id=PointId(num=at), score=1 - at / 10) for at in range(1, 4)]
        return QueryResponse(result=points, time=0.001)

    def Search(self, request, context):
        return self.Query(request, context)


class Echo(grpc.GenericRpcHandler):
    """Sends back what comes, message by message, while both directions are open."""

    def service(self, call):
        if call.method == "/echo.Echo/Both":
            return grpc.stream_stream_rpc_method_handler(lambda messages, _: messages)
        if call.method == "/echo.Echo/Fail":
            def fail(_, context):
                context.set_trailing_metadata((("x-why", "asked for"),))
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: ü")

            return grpc.unary_unary_rpc_method_handler(fail)
        if call.method == "/echo.Echo/Once":
            return grpc.unary_unary_rpc_method_handler(lambda message, _: message)
        return None


def add_milvus(server):
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

    class Milvus(milvus_pb2_grpc.MilvusServiceServicer):
        def Connect(self, request, context):
            return milvus_pb2.ConnectResponse(
                status=common_pb2.Status(), identifier=1,
                server_info=common_pb2.ServerInfo(build_tags="2.6.0"),
            )

        def GetVersion(self, request, context):
            return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version="2.6.0")

        def ListDatabases(self, request, context):
            return milvus_pb2.ListDatabasesResponse(status=common_pb2.Status(), db_names=["default"])

        def ShowCollections(self, request, context):
            return milvus_pb2.ShowCollectionsResponse(
                status=common_pb2.Status(), collection_names=["documents"]
            )

        def Search(self, request, context):
            ids = schema_pb2.IDs(int_id=schema_pb2.LongArray(data=[1, 2, 3]))
            result = schema_pb2.SearchResultData(
                num_queries=1, top_k=3, scores=[0.9, 0.8, 0.7], ids=ids, topks=[3]
            )
            return milvus_pb2.SearchResults(status=common_pb2.Status(), results=result)

    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Milvus(), server)


def add_weaviate(server):
    from weaviate.proto.v1.v6300.v1 import search_get_pb2, weaviate_pb2_grpc

    class Weaviate(weaviate_pb2_grpc.WeaviateServicer):
        def Search(self, request, context):
            def found(at):
                metadata = search_get_pb2.MetadataResult(
                    id=f"00000000-0000-0000-0000-00000000000{at}", distance=at / 10,
                    distance_present=True,
                )
                return search_get_pb2.SearchResult(metadata=metadata)

            return search_get_pb2.SearchReply(took=0.01, results=[found(at) for at in (1, 2, 3)])

    weaviate_pb2_grpc.add_WeaviateServicer_to_server(Weaviate(), server)


def serve(ports):
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=(Echo(),))
    qdrant_service.add_PointsServicer_to_server(Points(), server)
    for add in (add_milvus, add_weaviate):
        try:
            add(server)
        except ImportError:
            pass
    for port in ports:
        server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    return server

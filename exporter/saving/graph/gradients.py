"""Gradient functions inside a SavedModel's graph that TensorFlow saves by half."""

from tensorflow.core.protobuf import meta_graph_pb2

_GRADIENT = "_gradient_op_type"
_HANDING_ON = {"Identity", "IdentityN", "NoOp"}


def settle_gradients(meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    """Lets a gradient that only hands on what it is given have the gradient of an identity.

    TensorFlow saves the gradient of each operation that has one of its own, and not the gradient of that gradient.
    Whoever loads the file is then warned that a gradient "will likely fail". In an optimizer it is the sum over all
    replicas, whose gradient is itself: of one replica, an identity.

    Args:
        meta_graph: The graph with its functions; it is changed.
    """
    library = meta_graph.graph_def.library
    gradients = {registered.gradient_func for registered in library.registered_gradients}
    saved = {registered.registered_op_type.encode() for registered in library.registered_gradients}
    for function in library.function:
        nodes = function.node_def
        if function.signature.name in gradients and {node.op for node in nodes} <= _HANDING_ON:
            for node in nodes:
                if _GRADIENT in node.attr and node.attr[_GRADIENT].s not in saved:
                    del node.attr[_GRADIENT]

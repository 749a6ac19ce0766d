"""TensorFlow's messages as far as they are read and written here, without importing TensorFlow.

The numbers of the fields are those of `tensorflow/core/protobuf/{saved_model,meta_graph,saver,tensor_bundle,
trackable_object_graph,saved_object_graph}.proto` and `tensorflow/core/framework/{graph,function,op_def,node_def,
attr_value,tensor,tensor_shape,variable,versions,types}.proto`, and of `tf_keras/protobuf/saved_metadata.proto`.
Fields that are not listed are passed over, as protobuf does with every field that it does not know. The messages stand
in a pool of their own, beside TensorFlow's.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from exporter.typing import messages

# Each field: its number, its name, and its type; `*` stands for repeated. A map is a list of entries on the wire.
_MESSAGES: dict[str, list[tuple[int, str, str]]] = {
    "SavedModel": [(1, "saved_model_schema_version", "int64"), (2, "meta_graphs", "*MetaGraphDef")],
    "MetaGraphDef": [
        (1, "meta_info_def", "MetaInfoDef"),
        (2, "graph_def", "GraphDef"),
        (3, "saver_def", "SaverDef"),
        (4, "collection_def", "*CollectionEntry"),
        (5, "signature_def", "*SignatureEntry"),
        (6, "asset_file_def", "*AssetFileDef"),
        (7, "object_graph_def", "SavedObjectGraph"),
    ],
    "MetaInfoDef": [
        (4, "tags", "*string"),
        (5, "tensorflow_version", "string"),
        (7, "stripped_default_attrs", "bool"),
        (8, "function_aliases", "*TextEntry"),
    ],
    "TextEntry": [(1, "key", "string"), (2, "value", "string")],
    "SaverDef": [
        (1, "filename_tensor_name", "string"),
        (2, "save_tensor_name", "string"),
        (3, "restore_op_name", "string"),
    ],
    "CollectionEntry": [(1, "key", "string"), (2, "value", "CollectionDef")],
    "CollectionDef": [(1, "node_list", "NodeList"), (2, "bytes_list", "BytesList"), (5, "any_list", "AnyList")],
    "NodeList": [(1, "value", "*string")],
    "BytesList": [(1, "value", "*bytes")],
    "AnyList": [(1, "value", "*Any")],
    "Any": [(1, "type_url", "string"), (2, "value", "bytes")],
    "VariableDef": [(2, "initializer_name", "string")],
    "SignatureEntry": [(1, "key", "string"), (2, "value", "SignatureDef")],
    "SignatureDef": [
        (1, "inputs", "*TensorInfoEntry"),
        (2, "outputs", "*TensorInfoEntry"),
        (3, "method_name", "string"),
    ],
    "TensorInfoEntry": [(1, "key", "string"), (2, "value", "TensorInfo")],
    "TensorInfo": [(1, "name", "string"), (2, "dtype", "int32"), (3, "tensor_shape", "TensorShapeProto")],
    "TensorShapeProto": [(2, "dim", "*Dim"), (3, "unknown_rank", "bool")],
    "Dim": [(1, "size", "int64"), (2, "name", "string")],
    "AssetFileDef": [(1, "tensor_info", "TensorInfo"), (2, "filename", "string")],
    "SavedObjectGraph": [(1, "nodes", "*SavedGraphObject"), (2, "concrete_functions", "*ConcreteFunctionEntry")],
    "ConcreteFunctionEntry": [(1, "key", "string"), (2, "value", "SavedConcreteFunction")],
    "SavedConcreteFunction": [(2, "bound_inputs", "*int32")],
    "SavedGraphObject": [
        (1, "children", "*ObjectReference"),
        (3, "slot_variables", "*SlotVariable"),
        (4, "user_object", "SavedUserObject"),
        (5, "asset", "Kind"),
        (6, "function", "SavedFunction"),
        (7, "variable", "SavedVariable"),
        (8, "bare_concrete_function", "SavedBareConcreteFunction"),
        (9, "constant", "Kind"),
        (10, "resource", "Kind"),
        (12, "captured_tensor", "Kind"),
        (11, "saveable_objects", "*SaveableEntry"),
        (13, "registered_name", "string"),
    ],
    "Kind": [],
    "SavedUserObject": [(1, "identifier", "string"), (3, "metadata", "string")],
    "SavedVariable": [(1, "dtype", "int32"), (2, "shape", "TensorShapeProto")],
    "SlotVariable": [
        (1, "original_variable_node_id", "int32"),
        (2, "slot_name", "string"),
        (3, "slot_variable_node_id", "int32"),
    ],
    "SavedFunction": [(1, "concrete_functions", "*string")],
    "SavedBareConcreteFunction": [(1, "concrete_function_name", "string")],
    "SaveableEntry": [(1, "key", "string"), (2, "value", "SaveableObject")],
    "SaveableObject": [(2, "save_function", "int32"), (3, "restore_function", "int32")],
    "GraphDef": [(1, "node", "*NodeDef"), (2, "library", "FunctionDefLibrary")],
    "NodeDef": [(1, "name", "string"), (2, "op", "string"), (3, "input", "*string"), (5, "attr", "*AttrEntry")],
    "AttrEntry": [(1, "key", "string"), (2, "value", "AttrValue")],
    "AttrValue": [
        (1, "list", "AttrList"),
        (2, "s", "bytes"),
        (3, "i", "int64"),
        (5, "b", "bool"),
        (6, "type", "int32"),
        (7, "shape", "TensorShapeProto"),
        (8, "tensor", "TensorProto"),
        (10, "func", "NameAttrList"),
    ],
    "AttrList": [(9, "func", "*NameAttrList")],
    "NameAttrList": [(1, "name", "string"), (2, "attr", "*AttrEntry")],
    "TensorProto": [
        (1, "dtype", "int32"),
        (2, "tensor_shape", "TensorShapeProto"),
        (4, "tensor_content", "bytes"),
        (7, "int_val", "*int32"),
        (8, "string_val", "*bytes"),
        (10, "int64_val", "*int64"),
    ],
    "FunctionDefLibrary": [
        (1, "function", "*FunctionDef"),
        (2, "gradient", "*GradientDef"),
        (3, "registered_gradients", "*RegisteredGradient"),
    ],
    "FunctionDef": [(1, "signature", "OpDef"), (3, "node_def", "*NodeDef"), (5, "attr", "*AttrEntry")],
    "OpDef": [(1, "name", "string"), (2, "input_arg", "*ArgDef")],
    "ArgDef": [(1, "name", "string"), (5, "number_attr", "string"), (6, "type_list_attr", "string")],
    "GradientDef": [(1, "function_name", "string"), (2, "gradient_func", "string")],
    "RegisteredGradient": [(1, "gradient_func", "string"), (2, "registered_op_type", "string")],
    "BundleHeaderProto": [(1, "num_shards", "int32"), (2, "endianness", "int32"), (3, "version", "VersionDef")],
    "VersionDef": [(1, "producer", "int32"), (2, "min_consumer", "int32"), (3, "bad_consumers", "*int32")],
    "BundleEntryProto": [
        (1, "dtype", "int32"),
        (2, "shape", "TensorShapeProto"),
        (3, "shard_id", "int32"),
        (4, "offset", "int64"),
        (5, "size", "int64"),
        (6, "crc32c", "fixed32"),
        (7, "slices", "*TensorSliceProto"),
    ],
    "TensorSliceProto": [(1, "extent", "*Extent")],
    "Extent": [(1, "start", "int64"), (2, "length", "int64")],
    "TrackableObjectGraph": [(1, "nodes", "*TrackableObject")],
    "TrackableObject": [
        (1, "children", "*ObjectReference"),
        (2, "attributes", "*SerializedTensor"),
        (3, "slot_variables", "*SlotVariable"),
    ],
    "ObjectReference": [(1, "node_id", "int32"), (2, "local_name", "string")],
    "SerializedTensor": [(1, "name", "string"), (2, "full_name", "string"), (3, "checkpoint_key", "string")],
    "SavedMetadata": [(1, "nodes", "*SavedObject")],
    "SavedObject": [
        (2, "node_id", "int32"),
        (3, "node_path", "string"),
        (4, "identifier", "string"),
        (5, "metadata", "string"),
    ],
}

# `DataType` of `types.proto`, by the names that NumPy and TensorFlow's Python use. A reference has 100 more.
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}

_PACKAGE = "exporter"


def _build_pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="exporter/messages.proto", package=_PACKAGE, syntax="proto3")
    scalars = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = scalars.LABEL_REPEATED if kind.startswith("*") else scalars.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in _MESSAGES:
                field.type = scalars.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = scalars.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _build_pool()


def _get_class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


SavedModel: messages.MessageClass[messages.SavedModel] = _get_class("SavedModel")
BundleHeaderProto: messages.MessageClass[messages.BundleHeaderProto] = _get_class("BundleHeaderProto")
BundleEntryProto: messages.MessageClass[messages.BundleEntryProto] = _get_class("BundleEntryProto")
TrackableObjectGraph: messages.MessageClass[messages.TrackableObjectGraph] = _get_class("TrackableObjectGraph")
SavedMetadata: messages.MessageClass[messages.SavedMetadata] = _get_class("SavedMetadata")
VariableDef: messages.MessageClass[messages.VariableDef] = _get_class("VariableDef")
AssetFileDef: messages.MessageClass[messages.AssetFileDef] = _get_class("AssetFileDef")

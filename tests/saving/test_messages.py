"""Our own descriptions of TensorFlow's messages, held against TensorFlow's."""

from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from tensorflow.core.framework import (
    attr_value_pb2,
    function_pb2,
    graph_pb2,
    node_def_pb2,
    op_def_pb2,
    tensor_pb2,
    tensor_shape_pb2,
    tensor_slice_pb2,
    types_pb2,
    variable_pb2,
    versions_pb2,
)
from tensorflow.core.protobuf import (
    meta_graph_pb2,
    saved_model_pb2,
    saved_object_graph_pb2,
    saver_pb2,
    tensor_bundle_pb2,
    trackable_object_graph_pb2,
)
from tf_keras.protobuf import saved_metadata_pb2

from exporter.saving.layout import messages

THEIRS: dict[str, Any] = {
    "SavedModel": saved_model_pb2.SavedModel,
    "MetaGraphDef": meta_graph_pb2.MetaGraphDef,
    "MetaInfoDef": meta_graph_pb2.MetaGraphDef.MetaInfoDef,
    "TextEntry": meta_graph_pb2.MetaGraphDef.MetaInfoDef.FunctionAliasesEntry,
    "SaverDef": saver_pb2.SaverDef,
    "CollectionEntry": meta_graph_pb2.MetaGraphDef.CollectionDefEntry,
    "CollectionDef": meta_graph_pb2.CollectionDef,
    "NodeList": meta_graph_pb2.CollectionDef.NodeList,
    "BytesList": meta_graph_pb2.CollectionDef.BytesList,
    "AnyList": meta_graph_pb2.CollectionDef.AnyList,
    "Any": any_pb2.Any,
    "VariableDef": variable_pb2.VariableDef,
    "SignatureEntry": meta_graph_pb2.MetaGraphDef.SignatureDefEntry,
    "SignatureDef": meta_graph_pb2.SignatureDef,
    "TensorInfoEntry": meta_graph_pb2.SignatureDef.InputsEntry,
    "TensorInfo": meta_graph_pb2.TensorInfo,
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "AssetFileDef": meta_graph_pb2.AssetFileDef,
    "GraphDef": graph_pb2.GraphDef,
    "NodeDef": node_def_pb2.NodeDef,
    "AttrEntry": node_def_pb2.NodeDef.AttrEntry,
    "AttrValue": attr_value_pb2.AttrValue,
    "AttrList": attr_value_pb2.AttrValue.ListValue,
    "NameAttrList": attr_value_pb2.NameAttrList,
    "TensorProto": tensor_pb2.TensorProto,
    "SavedObjectGraph": saved_object_graph_pb2.SavedObjectGraph,
    "ConcreteFunctionEntry": saved_object_graph_pb2.SavedObjectGraph.ConcreteFunctionsEntry,
    "SavedConcreteFunction": saved_object_graph_pb2.SavedConcreteFunction,
    "SavedGraphObject": saved_object_graph_pb2.SavedObject,
    "Kind": saved_object_graph_pb2.SavedUserObject,  # one of several, and looked at for being there only
    "SavedUserObject": saved_object_graph_pb2.SavedUserObject,
    "SavedVariable": saved_object_graph_pb2.SavedVariable,
    "SlotVariable": trackable_object_graph_pb2.TrackableObjectGraph.TrackableObject.SlotVariableReference,
    "SavedFunction": saved_object_graph_pb2.SavedFunction,
    "SavedBareConcreteFunction": saved_object_graph_pb2.SavedBareConcreteFunction,
    "SaveableEntry": saved_object_graph_pb2.SavedObject.SaveableObjectsEntry,
    "SaveableObject": saved_object_graph_pb2.SaveableObject,
    "FunctionDefLibrary": function_pb2.FunctionDefLibrary,
    "FunctionDef": function_pb2.FunctionDef,
    "OpDef": op_def_pb2.OpDef,
    "ArgDef": op_def_pb2.OpDef.ArgDef,
    "GradientDef": function_pb2.GradientDef,
    "RegisteredGradient": function_pb2.RegisteredGradient,
    "BundleHeaderProto": tensor_bundle_pb2.BundleHeaderProto,
    "VersionDef": versions_pb2.VersionDef,
    "BundleEntryProto": tensor_bundle_pb2.BundleEntryProto,
    "TensorSliceProto": tensor_slice_pb2.TensorSliceProto,
    "Extent": tensor_slice_pb2.TensorSliceProto.Extent,
    "TrackableObjectGraph": trackable_object_graph_pb2.TrackableObjectGraph,
    "TrackableObject": trackable_object_graph_pb2.TrackableObjectGraph.TrackableObject,
    "ObjectReference": trackable_object_graph_pb2.TrackableObjectGraph.TrackableObject.ObjectReference,
    "SerializedTensor": trackable_object_graph_pb2.TrackableObjectGraph.TrackableObject.SerializedTensor,
    "SavedMetadata": saved_metadata_pb2.SavedMetadata,
    "SavedObject": saved_metadata_pb2.SavedObject,
}


def describe(field: FieldDescriptor) -> tuple[str, int, bool]:
    # An enum is written like an int32.
    kind = FieldDescriptor.TYPE_INT32 if field.type == FieldDescriptor.TYPE_ENUM else field.type
    return field.name, kind, field.is_repeated


def test_every_message_is_held_against_theirs() -> None:
    assert set(THEIRS) == set(messages._MESSAGES)


@pytest.mark.parametrize("name", THEIRS)
def test_the_fields_are_those_of_tensorflow(name: str) -> None:
    theirs = {field.number: describe(field) for field in THEIRS[name].DESCRIPTOR.fields}
    ours = {field.number: describe(field) for field in messages._get_class(name).DESCRIPTOR.fields}
    assert ours == {number: theirs[number] for number in ours}


def test_the_dtypes_are_those_of_tensorflow() -> None:
    numbers = [number for number in types_pb2.DataType.values() if 0 < number < 100]
    assert {number: tf.as_dtype(number).name for number in numbers} == messages.DTYPES

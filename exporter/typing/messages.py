"""The messages of `exporter.saving.layout.messages`, by their names there, field by field."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

M_co = TypeVar("M_co", covariant=True)


class MessageClass(Protocol[M_co]):
    """The class of a message."""

    def __call__(self, **fields: object) -> M_co:
        """Makes a message."""

    def FromString(self, data: bytes, /) -> M_co:
        """Reads a message from its bytes."""


class Message(Protocol):
    """Any message."""

    def HasField(self, name: str, /) -> bool:
        """Tells whether a message inside is there."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:
        """Returns the bytes of a message."""

    def SetInParent(self) -> None:
        """Makes an empty message be there."""


class Dim(Protocol):
    """One size of a shape."""

    size: int


class Dims(Iterable[Dim], Protocol):
    """The sizes of a shape."""

    def add(self, *, size: int) -> Dim:
        """Adds one."""


class TensorShapeProto(Message, Protocol):
    """A shape."""

    dim: Dims
    unknown_rank: bool


class TensorProto(Protocol):
    """A constant."""

    dtype: int
    tensor_shape: TensorShapeProto
    tensor_content: bytes
    int_val: Sequence[int]
    int64_val: Sequence[int]
    string_val: Sequence[bytes]


class NameAttrList(Protocol):
    """A function, and the attributes that it is called with."""

    name: str
    attr: Sequence["AttrEntry"]


class AttrList(Protocol):
    """The value of an attribute that is a list."""

    func: Sequence[NameAttrList]


class AttrValue(Message, Protocol):
    """The value of an attribute: what one field of it holds."""

    list: AttrList
    s: bytes
    i: int
    type: int
    shape: TensorShapeProto
    tensor: TensorProto
    func: NameAttrList


class AttrEntry(Protocol):
    """An attribute of a node or of a function."""

    key: str
    value: AttrValue


class NodeDef(Protocol):
    """One operation of a graph or a function."""

    name: str
    op: str
    input: Sequence[str]
    attr: Sequence[AttrEntry]


class ArgDef(Protocol):
    """An argument of a function."""

    name: str
    number_attr: str
    type_list_attr: str


class OpDef(Protocol):
    """The name of a function, and what it takes."""

    name: str
    input_arg: Sequence[ArgDef]


class FunctionDef(Protocol):
    """A function of a graph."""

    signature: OpDef
    node_def: Sequence[NodeDef]
    attr: Sequence[AttrEntry]


class GradientDef(Protocol):
    """The function that is the gradient of another one, or of an operation."""

    gradient_func: str


class FunctionDefLibrary(Protocol):
    """The functions of a graph."""

    function: Sequence[FunctionDef]
    gradient: Sequence[GradientDef]
    registered_gradients: Sequence[GradientDef]


class GraphDef(Protocol):
    """A graph with its functions."""

    node: Sequence[NodeDef]
    library: FunctionDefLibrary


class TensorInfo(Protocol):
    """A tensor that an endpoint takes or returns."""

    name: str
    dtype: int
    tensor_shape: TensorShapeProto


class TensorInfoEntry(Protocol):
    """Such a tensor, by its name in the endpoint."""

    key: str
    value: TensorInfo


class SignatureDef(Protocol):
    """An endpoint."""

    inputs: Sequence[TensorInfoEntry]
    outputs: Sequence[TensorInfoEntry]
    method_name: str


class SignatureEntry(Protocol):
    """An endpoint, by its name."""

    key: str
    value: SignatureDef


class NodeList(Protocol):
    """A list of names."""

    value: Sequence[str]


class BytesList(Protocol):
    """A list of messages, serialized."""

    value: Sequence[bytes]


class PackedAny(Protocol):
    """`google.protobuf.Any`: a message, serialized."""

    value: bytes


class AnyList(Protocol):
    """A list of messages, each serialized with its type."""

    value: Sequence[PackedAny]


class CollectionDef(Protocol):
    """A collection, of one kind."""

    node_list: NodeList
    bytes_list: BytesList
    any_list: AnyList


class CollectionEntry(Protocol):
    """A collection, by its name."""

    key: str
    value: CollectionDef


class AssetFileDef(Protocol):
    """A file, and the tensor that has its path."""

    tensor_info: TensorInfo
    filename: str


class VariableDef(Protocol):
    """A variable of TensorFlow 1."""

    initializer_name: str


class SaverDef(Protocol):
    """The nodes that save and restore."""

    filename_tensor_name: str
    restore_op_name: str


class ObjectReference(Protocol):
    """A child of an object."""

    node_id: int
    local_name: str


class SlotVariable(Protocol):
    """A slot of an optimizer."""

    original_variable_node_id: int
    slot_name: str
    slot_variable_node_id: int


class SavedUserObject(Protocol):
    """What a library says of an object of its own."""

    identifier: str
    metadata: str


class SavedFunction(Protocol):
    """A `tf.function` with its traces."""

    concrete_functions: Sequence[str]


class SavedBareConcreteFunction(Protocol):
    """A concrete function that stands by itself."""

    concrete_function_name: str


class SavedVariable(Protocol):
    """A variable of the object graph."""

    dtype: int
    shape: TensorShapeProto


class SaveableObject(Protocol):
    """The functions with which an object saves and restores itself."""

    save_function: int
    restore_function: int


class SaveableEntry(Protocol):
    """Such functions, by their name."""

    value: SaveableObject


class SavedGraphObject(Message, Protocol):
    """An object of the object graph, of one kind."""

    children: Sequence[ObjectReference]
    slot_variables: Sequence[SlotVariable]
    user_object: SavedUserObject
    function: SavedFunction
    variable: SavedVariable
    bare_concrete_function: SavedBareConcreteFunction
    saveable_objects: Sequence[SaveableEntry]
    registered_name: str


class SavedConcreteFunction(Protocol):
    """What a concrete function captures, by the numbers of the objects."""

    bound_inputs: Sequence[int]


class ConcreteFunctionEntry(Protocol):
    """A concrete function, by its name."""

    key: str
    value: SavedConcreteFunction


class SavedObjectGraph(Protocol):
    """The objects of a graph, and its concrete functions."""

    nodes: Sequence[SavedGraphObject]
    concrete_functions: Sequence[ConcreteFunctionEntry]


class TextEntry(Protocol):
    """A text, by its key."""

    key: str
    value: str


class MetaInfoDef(Protocol):
    """What a graph says of itself."""

    tags: Sequence[str]
    tensorflow_version: str
    function_aliases: Sequence[TextEntry]


class MetaGraphDef(Protocol):
    """A graph with its endpoints and objects."""

    meta_info_def: MetaInfoDef
    graph_def: GraphDef
    saver_def: SaverDef
    collection_def: Sequence[CollectionEntry]
    signature_def: Sequence[SignatureEntry]
    asset_file_def: Sequence[AssetFileDef]
    object_graph_def: SavedObjectGraph


class SavedModel(Message, Protocol):
    """The whole of `saved_model.pb`."""

    meta_graphs: Sequence[MetaGraphDef]


class VersionDef(Protocol):
    """The version of a format."""

    producer: int


class BundleHeaderProto(Message, Protocol):
    """What an index says of the whole."""

    endianness: int
    version: VersionDef


class Extent(Message, Protocol):
    """A part of one dimension."""

    start: int
    length: int


class TensorSliceProto(Protocol):
    """A part of a tensor, by its dimensions."""

    extent: Sequence[Extent]


class BundleEntryProto(Message, Protocol):
    """Where a tensor is."""

    dtype: int
    shape: TensorShapeProto
    shard_id: int
    offset: int
    size: int
    crc32c: int
    slices: Sequence[TensorSliceProto]


class SerializedTensor(Protocol):
    """A value of an object in a checkpoint."""

    name: str
    checkpoint_key: str


class TrackableObject(Protocol):
    """An object in a checkpoint."""

    children: Sequence[ObjectReference]
    attributes: Sequence[SerializedTensor]
    slot_variables: Sequence[SlotVariable]


class TrackableObjectGraph(Protocol):
    """The objects of a checkpoint."""

    nodes: Sequence[TrackableObject]


class SavedObject(Protocol):
    """A layer or a model in the metadata of Keras 2."""

    node_id: int
    node_path: str
    identifier: str
    metadata: str


class SavedMetadata(Message, Protocol):
    """The metadata of Keras 2."""

    nodes: Sequence[SavedObject]

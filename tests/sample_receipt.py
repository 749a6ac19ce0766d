"""A receipt in which every field says something."""

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import (
    SCHEMA_VERSION,
    Check,
    Input,
    Machine,
    Measurements,
    Phase,
    Repository,
    Request,
    Score,
    Status,
)
from exporter.saving.contents import ContentItem, Endpoint, Omission, Tensor
from exporter.storage.digests import FileRecord

RECEIPT = Receipt(
    schema_version=SCHEMA_VERSION,
    status=Status.PROVEN,
    filepath="/exports/zahlen ✓",
    format="tf",
    read=("1,797 scans",),
    recipe={
        "model": {"_target_": "exporter.sources.digits", "epochs": 2},
        "save_format": None,
        "options": {"experimental_skip_saver": False, "extra_tags": []},
        "layout": {"kind": "single"},
    },
    inputs=(Input("model.weights", "old.h5", "cd" * 32, 34),),
    repository=Repository("ef" * 20, dirty=True),
    versions={"python": "3.11.2", "keras": "3.15.1"},
    files=(FileRecord("saved_model.pb", 12, "ab" * 32, None), FileRecord("model.weights.h5", 0, None, "variables/x")),
    total_bytes=12,
    signatures={
        "serving_default": Endpoint(
            {"pixels": Tensor((None, 8, 8, 1), "float32")}, {"probabilities": Tensor(None, "float32")}
        )
    },
    request=Request("serving_default", '{"inputs": "it\'s"}', None),
    held=(ContentItem("weights", "2 tensors, 12 B"),),
    left_out=(Omission("metrics", "they are reset"),),
    checks=(Check("predictions", True, "bit-equal", "batch sizes 1, 2", 0.0),),
    seconds={Phase.WRITE: 0.25},
    measurements=Measurements(
        reader="exporter.load_model",
        batch_size=1,
        runs=10,
        load_seconds=0.1,
        first_seconds=0.01,
        median_seconds=0.001,
        p90_seconds=0.002,
        p99_seconds=0.003,
        memory_bytes=1000,
    ),
    peak_memory_bytes=123_456_789,
    started="2026-01-02T03:04:05.678+00:00",
    finished="2026-01-02T03:04:06.678+00:00",
    host="here",
    machine=Machine("a processor", 2, 2**33, "Linux 6", ("a GPU",)),
    scores=(Score("serving_default", "probabilities", "accuracy", 0.97, 0.98, 360, -0.01, True),),
    came_from="version 2",
)

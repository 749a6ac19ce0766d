"""What the figures should be: ratios of ours to a peer in one run, and limits on memory and bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MEBIBYTE = 1 << 20
# Beyond its largest tensor, what a save may need more than before.
_SPARE_MEMORY = 64 * MEBIBYTE
_MIDDLE = ("mobilenet", "resnet50", "transformer", "dense200")
_LARGE = "dense16x4096"

# Measure -> case -> peer -> figure.
Medians = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target and what was measured.

    Attributes:
        name: What is compared, such as `save mobilenet: exporter-tf / keras-export`.
        value: The ratio, or the share of the limit.
        limit: The highest that is good.
    """

    name: str
    value: float
    limit: float

    @property
    def is_reached(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.limit


# The models, ours, the peer, and the highest ratio of the seconds of one save.
_SAVES = (
    (_MIDDLE, "exporter-tf", "tf_keras-tf", 0.35),
    (_MIDDLE, "exporter-tf", "keras-export", 0.7),
    ((_LARGE,), "exporter-tf", "raw", 1.3),
    (("dense200", _LARGE), "exporter-h5", "keras-h5", 0.5),
    (("mobilenet", "resnet50", "transformer"), "exporter-h5", "raw", 1.2),
    ((_LARGE,), "exporter-keras", "keras-keras", 0.5),
    (_MIDDLE, "exporter-keras", "raw", 1.3),
)
# What loads the same thing: a model that trains on, or from HDF5 one that is not compiled.
_LOADS = {
    "exporter-tf": ("tf_keras-tf", "keras-keras"),
    "exporter-h5": ("tf_keras-h5",),
    "exporter-weights-h5": ("keras-h5",),
    "exporter-keras": ("keras-keras",),
}


def judge(medians: Medians) -> list[Verdict]:
    """Compares the medians with every target that they have figures for."""
    return [
        *_judge_saves(medians.get("save", {})),
        *_judge_resources(medians.get("save", {})),
        *_judge_loads(medians.get("load", {})),
        *_judge_growth(medians),
        *_judge_processes(medians),
        *_judge_conversions(medians.get("deploy", {})),
    ]


def _judge_saves(saves: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Verdict]:
    for models, ours, peer, limit in _SAVES:
        for model in models:
            figures = saves.get(model, {})
            if ours in figures and peer in figures:
                ratio = figures[ours]["seconds"] / figures[peer]["seconds"]
                yield Verdict(f"save {model}: {ours} / {peer}", ratio, limit)


def _judge_resources(saves: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Verdict]:
    for model, figures in saves.items():
        for peer, figure in figures.items():
            if peer.startswith("exporter"):
                spare = figure["largest"] + _SPARE_MEMORY
                yield Verdict(f"memory {model}: {peer} / (largest + 64 MiB)", figure["extra_memory"] / spare, 1.0)
        if "exporter-tf" in figures:
            figure = figures["exporter-tf"]
            needed = figure["state"] + figure["graph"]
            yield Verdict(f"bytes {model}: exporter-tf / (state + graph)", figure["bytes"] / needed, 1.03)


def _judge_loads(loads: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Verdict]:
    for model, figures in loads.items():
        for ours, peers in _LOADS.items():
            present = [peer for peer in peers if peer in figures]
            if ours in figures and present:
                fastest = min(present, key=lambda peer: figures[peer]["seconds"])
                ratio = figures[ours]["seconds"] / figures[fastest]["seconds"]
                yield Verdict(f"load {model}: {ours} / {fastest}", ratio, 1.0)


def _judge_growth(medians: Medians) -> Iterator[Verdict]:
    """Compares the cost per layer or per byte of the largest model with that of the smallest one."""
    for measure, unit in (("layers", "layer"), ("bytes", "byte"), ("layers-load", "layer")):
        cases = medians.get(measure, {})
        if len(cases) > 1:
            small, large = next(iter(cases)), list(cases)[-1]
            for peer in cases[small].keys() - {"raw"}:  # its growth is that of the disk
                per_small, per_large = (
                    cases[case][peer]["seconds"] / cases[case][peer]["units"] for case in (small, large)
                )
                name = f"{measure} {small} to {large}: {peer} per {unit}"
                yield Verdict(name, per_large / per_small, 1.3)


def _judge_processes(medians: Medians) -> Iterator[Verdict]:
    for measure, case, peer, limit in (
        ("start", "help", "bare-hydra", 1.3),
        ("start", "cfg", "bare-hydra", 1.3),
        ("start", "fault", "bare-hydra", 1.3),
        ("run", "proof", "without-proof", 1.35),
        ("run", "sweep", "single-runs", 0.6),
    ):
        figures = medians.get(measure, {}).get(case, {})
        if "exporter" in figures and peer in figures:
            ratio = figures["exporter"]["seconds"] / figures[peer]["seconds"]
            yield Verdict(f"{measure} {case}: exporter / {peer}", ratio, limit)


def _judge_conversions(cases: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Verdict]:
    """Compares with what Keras converts in its own process, by the same converters."""
    for case, figures in cases.items():
        if "keras" in figures:
            for ours in ("exporter", "exporter-started"):
                ratio = figures[ours]["seconds"] / figures["keras"]["seconds"]
                yield Verdict(f"convert {case}: {ours} / keras", ratio, 1.2)
            ratio = figures["exporter"]["bytes"] / figures["keras"]["bytes"]
            yield Verdict(f"bytes {case}: exporter / keras", ratio, 1.02)

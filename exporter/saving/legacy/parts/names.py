"""Names of layers, in which Keras 3 allows no slash."""

from exporter.typing.structures import Config


def translate_name(name: str) -> str:
    """Returns a name that Keras 3 allows."""
    return name.replace("/", "_")


def name_layers(layers: list[Config]) -> dict[str, str]:
    """Names layers as Keras 3 allows it, each differently.

    Args:
        layers: Their configurations; those without a name are left out.

    Returns:
        Today's name of each layer.
    """
    old = [name for name in map(find_name, layers) if name is not None]
    taken = {name for name in old if "/" not in name}
    counts: dict[str, int] = {}
    names = {}
    for name in old:
        ours = base = translate_name(name)
        while "/" in name and ours in taken:
            counts[base] = counts.get(base, 0) + 1
            ours = f"{base}_{counts[base]}"
        taken.add(ours)
        names[name] = ours
    return names


def find_name(layer: Config) -> str | None:
    """Returns the name of a layer in its configuration."""
    inner = layer.get("config")
    name = layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return name if isinstance(name, str) else None

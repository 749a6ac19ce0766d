"""An artifact again, from the recipe inside it, which is a stranger's until proven otherwise."""

from exporter.cli.rerunning.planning import plan_rerun

__all__ = ["plan_rerun"]

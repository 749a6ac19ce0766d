"""`python -m exporter`, and the command `exporter`."""

import sys

from exporter.cli.commands import COMMANDS, run_command
from exporter.processes.imports import claim_process


def main() -> None:
    """Runs one of the commands, or an export, and ends the process with its exit code."""
    claim_process()
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        sys.exit(run_command(sys.argv[1:]))
    if {"-h", "--help"} & set(sys.argv[1:]):
        from exporter.cli.help.front import write_front_page

        print(write_front_page(COMMANDS), end="")
        return
    if "--version" in sys.argv[1:]:
        from exporter.cli.help.versions import write_versions

        print(write_versions())
        return
    # Not above: the commands do not pay for Hydra.
    from exporter.cli.main import main as run_export

    run_export(COMMANDS)


if __name__ == "__main__":
    main()

"""`python -m exporter`, and the command `exporter`."""

import sys

from exporter.cli.commands import COMMANDS, run_command


def main() -> None:
    """Runs one of the commands, or an export, and ends the process with its exit code."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        sys.exit(run_command(sys.argv[1:]))
    # Not above: the commands do not pay for Hydra.
    from exporter.cli.main import main as run_export

    run_export()


if __name__ == "__main__":
    main()

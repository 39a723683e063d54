"""The entry point of the `coordinator` program."""

from coordinator_start import leave_the_current_directory


def main() -> None:
    """Run the command line, imported only now that the current directory cannot replace it."""
    leave_the_current_directory()
    from flows.cli.main import main as run

    run()

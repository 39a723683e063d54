"""The program `coordinator`."""

from coordinator_start import leave_the_current_directory


def main() -> None:
    """Run the command line, imported only now that nothing of the current directory can stand in for it."""
    leave_the_current_directory()
    from flows.cli.app import main as run

    run()

"""Compares the release of coordinator that made a deployment with the one that runs it on a worker."""

import socket
from importlib import metadata

from packaging.version import InvalidVersion, Version

DISTRIBUTION = "coordinator"


def own_release() -> str:
    """The release of this coordinator, such as `0.4.0`."""
    return metadata.version(DISTRIBUTION)


def is_other_release(deployed: str | None) -> bool:
    """Whether a deployment of version `deployed` was made by another release than this one.

    A version that is not a release's says nothing about it. Prefect's own command writes the first eight digits of the
    commit, or a hash of the flow's source, and some of these, such as 54a13724, are versions in Python's format too. So
    only what has a dot counts, as every release of coordinator does.
    """
    if not deployed or "." not in deployed:
        return False
    try:
        return Version(deployed) != Version(own_release())
    except InvalidVersion:
        return False


def warn_of_other_release(deployed: str | None) -> str:
    """Say what differs and how to fix it, if this process is of another release than `deployed`, else "".

    `deployed` is the version of the flow run's deployment, of which `is_other_release` says what counts.
    """
    if not deployed or not is_other_release(deployed):
        return ""
    own = own_release()
    fix = (
        "Make the deployment again: `coordinator deploy`."
        if Version(deployed) < Version(own)
        else "Update coordinator on that worker, then start the worker again."
    )
    return (
        f"The deployment of this run is of coordinator {deployed}, but its worker on {socket.gethostname()} has {own}, "
        f"and may not do what the deployment says. {fix}"
    )

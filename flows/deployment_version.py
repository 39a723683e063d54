"""Compares the release of coordinator that made a deployment with the one that runs it on a worker."""

import socket
from importlib import metadata

from packaging.version import InvalidVersion, Version

DISTRIBUTION = "coordinator"


def own_release() -> str:
    """The release of this coordinator, such as `0.4.0`."""
    return metadata.version(DISTRIBUTION)


def warn_of_other_release(deployed: str | None) -> str:
    """Say what differs and how to fix it, if this process is of another release than `deployed`, else "".

    `deployed` is the version of the flow run's deployment. A version that is not a release's says nothing about it:
    Prefect's own command writes a hash of the flow's source.
    """
    own = own_release()
    try:
        theirs = Version(deployed or "")
    except InvalidVersion:
        return ""
    if theirs == Version(own):
        return ""
    fix = (
        "Make the deployment again: `coordinator deploy`."
        if theirs < Version(own)
        else "Update coordinator on that worker, then start the worker again."
    )
    return (
        f"The deployment of this run is of coordinator {deployed}, but its worker on {socket.gethostname()} has {own}, "
        f"and may not do what the deployment says. {fix}"
    )

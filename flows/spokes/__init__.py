"""The link from a run to its sessions on other machines, through Prefect."""

"""The schema of `report` in `coordinator.yaml`."""

from pydantic import Field, field_validator

from tasks_lib.settings.value_types import Seconds, Section, check_path, check_role


class ReportSettings(Section):
    """Where after-action reports go, besides Prefect's artifacts, and who introduces them."""

    folder: str = Field(
        default="", description="The folder in which each after-action report is committed, e.g. `docs/aar`."
    )
    summary_role: str = Field(
        default="",
        description="The role of an agent that writes a summary for the top of each report, in one read-only turn, "
        "e.g. `report-writer`.",
    )
    summary_seconds: Seconds = Field(default=300, gt=0, description="Time limit for that turn.")

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, folder: str) -> str:
        return check_path(folder) if folder else folder

    @field_validator("summary_role")
    @classmethod
    def _check_role(cls, role: str) -> str:
        return check_role(role) if role else role

    def find_fault(self, tasks_dir: str) -> str:
        """Say what is wrong with the folder if task files are in `tasks_dir`, "" if nothing is."""
        if not f"{self.folder}/".startswith(f"{tasks_dir}/"):
            return ""
        return f"report.folder is {self.folder}, below the folder of task files; choose another, such as docs/aar"

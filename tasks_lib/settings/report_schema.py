"""The schema of `report` in `coordinator.yaml`."""

from pydantic import Field, field_validator

from tasks_lib.settings.value_types import Section, check_path


class ReportSettings(Section):
    """Where after-action reports go, besides Prefect's artifacts."""

    folder: str = Field(
        default="", description="The folder in which each after-action report is committed, e.g. `docs/aar`."
    )

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, folder: str) -> str:
        return check_path(folder) if folder else folder

    def find_fault(self, tasks_dir: str) -> str:
        """Say what is wrong with the folder if task files are in `tasks_dir`, "" if nothing is."""
        if not f"{self.folder}/".startswith(f"{tasks_dir}/"):
            return ""
        return f"report.folder is {self.folder}, below the folder of task files; choose another, such as docs/aar"

"""Lists the roles and models that a run's sessions will use, so that missing ones are reported early."""

from collections.abc import Iterable

from tasks_lib.agents.backend import Need
from tasks_lib.errors import Fault
from tasks_lib.model import RESOLVER, REVIEW_LEVEL, Task
from tasks_lib.project.loading import CONFIGURATION
from tasks_lib.runtime.run_context import Run
from tasks_lib.settings.schema import Settings


def find_agent_requirements(tasks: Iterable[Task], settings: Settings) -> list[Need]:
    """Return the roles and models for the levels of `tasks`, and for reviews, blockers and the summary, if needed."""
    open_tasks = [task for task in tasks if not task.is_completed and not task.is_human]
    needs = [_describe_work(settings, task) for task in open_tasks]
    if any(settings.may_be_reviewed(task) for task in open_tasks):
        needs.append(_describe_review(settings))
    if open_tasks and settings.wants_resolver:
        role = settings.role_for(RESOLVER)
        model = settings.agent.models.get(role, "")
        needs.append(Need(role, model, _say_where(settings, role, model)))
    if open_tasks and (role := settings.report.summary_role):
        model = settings.agent.models.get(role, "")
        where = f"{CONFIGURATION}: " + (f"agent.models.{role}" if model else "report.summary_role")
        needs.append(Need(role, model, where))
    found: dict[tuple[str, str], Need] = {}
    for need in needs:
        found.setdefault((need.role, need.model), need)
    return list(found.values())


def _describe_work(settings: Settings, task: Task) -> Need:
    role = settings.role_of(task)
    model = settings.model_for(task, role)
    for key, is_own in (("model", model and model == task.model), ("role", task.role)):
        if is_own:
            return Need(role, model, str(Fault(task.path, task.lines.get(key, 0), key)))
    return Need(role, model, _say_where(settings, role, model))


def _describe_review(settings: Settings) -> Need:
    # A task's own `model` is for its agent, not for its reviewer.
    role = settings.role_for(REVIEW_LEVEL)
    model = settings.agent.models.get(role, "")
    return Need(role, model, _say_where(settings, role, model))


def _say_where(settings: Settings, role: str, model: str) -> str:
    if model:
        return f"{CONFIGURATION}: agent.models.{role}"
    return f"{CONFIGURATION}: roles" if role in settings.roles.values() else CONFIGURATION


async def require_agent(run: Run, task_id: str) -> None:
    """Raise InputError if a node that was added during the run needs a role or a model that does not exist."""
    await _require(run, find_agent_requirements([run.nodes.graph.tasks[task_id]], run.settings))


async def require_reviewer(run: Run) -> None:
    """Raise InputError if there is no reviewer, who was not needed before a person's work was to be reviewed."""
    await _require(run, [_describe_review(run.settings)])


async def _require(run: Run, needs: Iterable[Need]) -> None:
    new = [need for need in needs if need not in run.agents.requirements]
    if new:
        await run.agents.backend.prepare(new)
        run.agents.requirements.update(new)

"""Explains that the base was rewritten and no longer contains what was published on it."""

from tasks_lib.runtime.run_context import Run


def describe_rewritten_base(run: Run, base: str, known: str) -> str:
    """Tell the user that `base` no longer contains the commit `known`, and what to do about it."""
    where = run.project.base_name
    said = f"{where} was rewritten: {base[:12]} no longer contains {known[:12]}"
    if run.git.head.is_pending():
        how = " there" if run.project.is_remote else f" (`git merge {known}`)"
        return (
            f"{said}, on which unpublished landed work is based; restore it{how}, "
            f"or discard that work (`git update-ref -d {run.git.head.refs.queue_ref}`), and run again"
        )
    return f"{said}, which was published; check `git reflog {run.git.head.refs.base_ref}` and run again"

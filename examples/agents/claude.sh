#!/bin/sh
# What `agent: {preset: claude}` does, as a wrapper of your own to change. Written for Claude Code 2.1.
#
#     agent:
#       command: [/path/to/claude.sh, "{answer_file}"]
#     env:
#       agent: [ANTHROPIC_API_KEY]
set -eu
answer=$1
# `--session-id` refuses a conversation that exists, and `--resume` one that does not. After a kill, turn 1 comes again
# in the same session, so what is on disk decides, and not the number of the turn.
how=--session-id
for file in "${CLAUDE_CONFIG_DIR:-$HOME/.claude}"/projects/*/"$COORDINATOR_SESSION.jsonl"; do
    if [ -e "$file" ]; then how=--resume; fi
done
# Hooks in .claude/settings.json and servers in .mcp.json of a branch would start without a question. Leaving them out
# also leaves out CLAUDE.md and AGENTS.md, so these are told, as they are on the target.
rules=$(git show "$COORDINATOR_TARGET:AGENTS.md" 2>/dev/null || git show "$COORDINATOR_TARGET:CLAUDE.md" 2>/dev/null || :)
# `acceptEdits` alone refuses `git commit` and `coordinator notify`, and still ends with 0.
status=0
claude -p --permission-mode acceptEdits --allowedTools Bash --setting-sources user --strict-mcp-config \
    --append-system-prompt "$rules" "$how" "$COORDINATOR_SESSION" > "$answer" || status=$?
cat "$answer"
if [ "$status" != 0 ]; then
    case $(tail -n 1 "$answer") in
        *limit*) exit 75 ;; # All sessions wait, and this one is asked again.
        *"API key"* | *login*) exit 77 ;; # No session can succeed.
    esac
fi
exit "$status"

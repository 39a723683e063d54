#!/bin/sh
# What `agent: {preset: codex}` does, as a wrapper of your own to change. Written for Codex 0.171.
#
#     agent:
#       command: [/path/to/codex.sh, "{prompt_file}", "{answer_file}"]
#     env:
#       agent: [CODEX_API_KEY]
set -eu
answer=$2
# Codex names its conversations itself. The name is kept beside the prompts of the session, outside of the worktree, so
# it is lost with a run that is killed; the preset keeps it.
here=$(dirname "$1")
own=$(git rev-parse --absolute-git-dir)
shared=$(git rev-parse --path-format=absolute --git-common-dir)
# In its sandbox, a commit in a linked worktree needs both git directories. A login shell would make PATH anew, without
# `coordinator`.
set -- --sandbox workspace-write --add-dir "$shared" --add-dir "$own" -c allow_login_shell=false --json -o "$answer"
if [ -s "$here/thread" ]; then set -- "$@" resume "$(cat "$here/thread")"; fi
status=0
codex exec "$@" - > "$here/events" || status=$?
cat "$here/events"
sed -n 's/.*"type":"thread.started","thread_id":"\([^"]*\)".*/\1/p' "$here/events" | head -n 1 > "$here/thread"
if [ "$status" != 0 ]; then
    case $(tail -n 1 "$here/events") in
        *"usage limit"* | *" 429 "*) exit 75 ;; # All sessions wait, and this one is asked again.
        *" 401 "*) exit 77 ;; # No session can succeed.
    esac
fi
exit "$status"

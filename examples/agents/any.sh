#!/bin/sh
# An agent that coordinator does not know, here called `my-agent`: what a wrapper has to do.
#
#     agent:
#       command: [/path/to/any.sh, "{prompt_file}", "{answer_file}"]
#     env:
#       agent: [MY_AGENT_KEY]
set -eu
prompt=$1 answer=$2
# 1. One conversation per session, if the program has such a thing. After a kill, turn 1 comes again in the same session,
#    so a file decides that lasts as long as the worktree: in its git directory, where git ignores it.
mark=$(git rev-parse --git-dir)/my-agent-$COORDINATOR_SESSION
again=
if [ -e "$mark" ]; then again=--continue; fi
touch "$mark"
# 2. No questions, and all that is needed to commit and to call `coordinator notify`.
# 3. Its answer apart from its log: the answer becomes the Summary, and holds a reviewer's verdict.
status=0
my-agent run --yes --session "$COORDINATOR_SESSION" $again < "$prompt" > "$answer" || status=$?
cat "$answer"
# 4. Limits and wrong keys are not failures of the task.
case $status in
    3) coordinator notify --level limit --until "$(($(date +%s) + 600))" "my-agent is rate limited"; exit 75 ;;
    4) echo "my-agent is not logged in"; exit 77 ;;
esac
exit "$status"

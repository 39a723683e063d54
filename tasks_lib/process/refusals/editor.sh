#!/bin/sh
# Stands in for the editor of a person, who is not there. A message that git has made already is left as it is; what
# somebody would have to write is refused, so that git, or whoever asks, stops at once.
say() { echo "coordinator: nobody is here to $1" >&2; }

# Whether the message in $file is more than white space, comments, and the patch that `commit --verbose` shows.
has_message() {
    mark=$(git config --get core.commentString || git config --get core.commentChar) 2> /dev/null
    case $mark in '' | auto) mark='#' ;; esac
    awk -v mark="$mark" '
        index($0, mark) == 1 { if (/ >8 /) exit; next }
        /[^ \t\r]/ { found = 1; exit }
        END { exit !found }
    ' "$file" 2> /dev/null
}

file=
for word; do file=$word; done
case ${file##*/} in
COMMIT_EDITMSG | MERGE_MSG | SQUASH_MSG | TAG_EDITMSG | NOTES_EDITMSG | EDIT_DESCRIPTION)
    if has_message; then
        say 'edit the message, so it stays as it is; give another with -m TEXT'
        exit 0
    fi
    say 'write the message: give it with -m TEXT or -F FILE'
    ;;
git-rebase-todo)
    say 'edit the list of commits: set GIT_SEQUENCE_EDITOR to a command that edits it, or to true to take it as it is'
    ;;
*)
    say "edit ${file:-a file}: give the text in the command, such as -m TEXT, or change the file by another command"
    ;;
esac
exit 1

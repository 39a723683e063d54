#!/bin/sh
# Runs in place of an editor, because nobody is there to type. A message that git has already prepared is kept. Anything
# that someone would have to write is refused, so that git, or another caller, stops at once.
say() { echo "coordinator: nobody is here to $1" >&2; }

# Succeeds if the message in $file contains more than white space, comments, and the patch of `commit --verbose`.
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
        say 'edit the message, so it is used unchanged; to give another, use -m TEXT'
        exit 0
    fi
    say 'write the message: give it with -m TEXT or -F FILE'
    ;;
git-rebase-todo)
    say 'edit the list of commits: set GIT_SEQUENCE_EDITOR to a command that edits it, or to true to keep it unchanged'
    ;;
*)
    say "edit ${file:-a file}: give the text as an option such as -m TEXT, or change the file with another command"
    ;;
esac
exit 1

# Takes one turn at a node of the story; what each node does stands below.
set -e
id=$COORDINATOR_TASK_ID attempt=$COORDINATOR_ATTEMPT turn=$COORDINATOR_TURN
git_dir=$(git rev-parse --path-format=absolute --git-common-dir)
place=${git_dir%/repository/.git}
mkdir -p "$place/prompts" "$place/seen"

commit() { git add -A -- . ':!inner' && git commit -q -m "$1"; }
work() { echo "$id, turn $turn of attempt $attempt" >> "$id.txt"; commit "feat($id): turn $turn of attempt $attempt"; }
hold() {
    : > "$place/seen/$1"
    [ ! -e "$place/hold" ] || exec sleep 600
}

if [ "$COORDINATOR_ROLE" = code-reviewer ]; then
    sh note.sh review
    cat > "$place/prompts/review-$id-$attempt-$turn"
    case $id in
    unreviewable) exit 1 ;;
    reviewed) hold reviewed ;;
    given-back) [ "$(wc -l < given-back.txt)" -gt 1 ] || {
        echo 'One line is not enough.'
        echo 'Verdict: changes requested'
        exit
    } ;;
    esac
    echo 'Read it all.'
    echo 'Verdict: approved'
    exit
fi

sh note.sh agent
cat > "$place/prompts/$id-$attempt-$turn"
case $id in
landed)
    git worktree add -q --detach inner
    echo kept > inner/kept.txt
    git -C inner add -A
    git -C inner commit -q -m 'Something in a worktree inside'
    work
    ;;
blocked)
    if git cat-file -e "$COORDINATOR_TARGET:decision.txt" 2> "$place/seen/undecided"; then work && exit; fi
    echo 'as far as it went' > partial.txt
    commit 'feat(blocked): as far as it went'
    coordinator notify --level info 'Reading the rules'
    coordinator notify --level blocking 'Blocked: a person has to decide between two rules'
    ;;
retried)
    [ "$attempt" -gt 1 ] || { echo 'It went wrong.' && exit 1; }
    work
    ;;
nudged)
    echo "$turn" > nudged.txt
    [ "$turn" = 1 ] || commit 'feat(nudged): at last'
    ;;
given-back)
    work
    [ "$turn" = 1 ] || hold given-back
    ;;
working)
    work
    echo draft > draft.txt
    coordinator notify --level warning 'Half of it is done'
    hold working
    rm draft.txt
    ;;
aborted)
    : > "$place/seen/aborted"
    exec sleep 600
    ;;
*) work ;;
esac
echo "Did $id."

# Writes down which variables a program of the kind $1 is given, and which refs of the coordinator's there are.
set -e
git_dir=$(git rev-parse --path-format=absolute --git-common-dir)
place=${git_dir%/repository/.git}
mkdir -p "$place/variables"
env | sed -n 's/^\(COORDINATOR_[A-Z_]*\)=.*/\1/p' | sort > "$place/variables/$1"
git for-each-ref '--format=%(refname)' refs/coordinator >> "$place/refs"

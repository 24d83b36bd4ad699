#!/bin/bash
# run.sh TARGET CORPUS...: fuzz for FUZZ_SECONDS (10), starting from the corpus.
# New inputs go to a scratch folder; a crash is kept and its path printed.
set -u
target=$1
shift
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/seeds"
for path in "$@"; do
	if [ -d "$path" ]; then
		find "$path" -maxdepth 1 -type f -exec cp -t "$scratch/seeds" {} +
	else
		cp "$path" "$scratch/seeds/$(basename "$(dirname "$path")")-$(basename "$path")"
	fi
done
crash=$(dirname "$target")/crash-$(basename "$target")-
# 77, which it says of a crash, would be a test left out.
"$target" -error_exitcode=1 -max_total_time="${FUZZ_SECONDS:-10}" -rss_limit_mb=2048 -timeout=20 \
	-max_len=262144 -artifact_prefix="$crash" -print_final_stats=0 -verbosity=0 \
	"$scratch/seeds"

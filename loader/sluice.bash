# SPDX-License-Identifier: Apache-2.0
# Completion for sluice in bash. The options come from --help itself, so that
# they cannot differ from what the program takes.

_sluice_values() {
	case $1 in
	--io-backend) echo "auto uring threads" ;;
	--driver) echo "auto fuse erofs" ;;
	--transport) echo "auto uring dev" ;;
	--prefetch) echo "none list recorded all" ;;
	--offline) echo "block eio" ;;
	esac
}

_sluice() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local cmd=${COMP_WORDS[1]} words

	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		words=$(sluice --help 2>/dev/null | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
		mapfile -t COMPREPLY < <(compgen -W "$words --help --version" -- "$cur")
		return
	fi
	if [ "$cmd" = cache ] && [ "$COMP_CWORD" -eq 2 ]; then
		mapfile -t COMPREPLY < <(compgen -W "ls du pin unpin prune verify" -- "$cur")
		return
	fi
	words=$(_sluice_values "$prev")
	if [ -n "$words" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
	fi
	case $cur in
	-*)
		words=$(sluice "$cmd" --help 2>/dev/null | grep -o -e '--[a-z-]*')
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		;;
	*)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	esac
}

complete -F _sluice sluice

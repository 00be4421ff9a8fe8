# Completion of spare(1) for bash: commands and options come from the program itself, so they are never out of date.
_spare() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[1]-}
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(command spare help --json 2>/dev/null | sed -n 's/.*"command":"\([a-z]*\)".*/\1/p')" -- "$cur")
		return
	fi
	case $prev in
	--at | --from | --to)
		# --to of restore is a path; elsewhere these take a moment: snapshots, and what is often meant.
		if [ "$prev" != --to ] || [ "$cmd" = log ]; then
			mapfile -t COMPREPLY < <(compgen -W "5m 1h 1d yesterday $(command spare snapshot list --json 2>/dev/null | sed -n 's/.*"name":"\([A-Za-z0-9._-]*\)".*/\1/p')" -- "$cur")
			return
		fi ;;
	esac
	case $cur in
	-*)
		mapfile -t COMPREPLY < <(compgen -W "$(command spare help "$cmd" 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" -- "$cur")
		return ;;
	esac
	case $cmd in
	snapshot) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "create list delete hold release" -- "$cur"); return; } ;;
	branch) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "list show remove" -- "$cur"); return; }
		[ "$COMP_CWORD" -gt 3 ] || [ "$prev" = list ] || { mapfile -t COMPREPLY < <(compgen -W "$(command spare branch list --json 2>/dev/null | sed -n 's/.*"name":"\([A-Za-z0-9._-]*\)".*/\1/p')" -- "$cur"); return; } ;;
	standby) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "add remove pause resume list" -- "$cur"); return; } ;;
	dr) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "plan failover switchover commit rollback rejoin ack list report" -- "$cur"); return; }
		[ "$COMP_CWORD" -gt 3 ] || [ "$prev" != plan ] || { mapfile -t COMPREPLY < <(compgen -W "check show runbook" -- "$cur"); return; } ;;
	branch) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "list show remove" -- "$cur"); return; } ;;
	fork) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "list remove" -- "$cur"); return; } ;;
	config) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "show set" -- "$cur"); return; } ;;
	help) mapfile -t COMPREPLY < <(compgen -W "$(command spare help --json 2>/dev/null | sed -n 's/.*"command":"\([a-z]*\)".*/\1/p')" -- "$cur"); return ;;
	esac
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
complete -F _spare spare

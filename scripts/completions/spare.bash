# Completion of spare(1) for bash: commands and options come from the program itself, so they are never out of date.
_spare_names() { command spare "$1" list --json 2>/dev/null | sed -n 's/.*"name":"\([A-Za-z0-9._-]*\)".*/\1/p'; } # of snapshots, branches, forks
_spare_commands() { command spare help --json 2>/dev/null | sed -n 's/.*"command":"\([a-z-]*\)".*/\1/p'; }
_spare() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[1]-} moments
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_spare_commands)" -- "$cur")
		return
	fi
	case $cmd.$prev in
	dr.--at | dr.--since) return ;;		# (RFC 3339, and nothing else)
	restore.--to | sync.--from | standby.--from) ;;		# a path; elsewhere these take a moment: snapshots, and what is often meant
	*.--at | *.--from | *.--to)
		moments="5m 1h 1d yesterday $(_spare_names snapshot)"
		case $cmd in cat | restore) moments+=" $(_spare_names branch | sed 's/^/@/')" ;; esac
		mapfile -t COMPREPLY < <(compgen -W "$moments" -- "$cur")
		return ;;
	esac
	case $cur in
	-*)
		mapfile -t COMPREPLY < <(compgen -W "$(command spare help "$cmd" 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)" -- "$cur")
		return ;;
	esac
	case $cmd in
	snapshot) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "create list delete hold release" -- "$cur"); return; } ;;
	branch) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "list show remove" -- "$cur"); return; }
		[ "$COMP_CWORD" -gt 3 ] || [ "$prev" = list ] || { mapfile -t COMPREPLY < <(compgen -W "$(_spare_names branch)" -- "$cur"); return; } ;;
	fork) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "list remove" -- "$cur"); return; }
		[ "$COMP_CWORD" -gt 3 ] || [ "$prev" != remove ] || { mapfile -t COMPREPLY < <(compgen -W "$(_spare_names fork)" -- "$cur"); return; } ;;
	standby) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "add remove pause resume list" -- "$cur"); return; } ;;
	dr) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "plan failover switchover commit rollback rejoin ack list report" -- "$cur"); return; }
		[ "$COMP_CWORD" -gt 3 ] || [ "$prev" != plan ] || { mapfile -t COMPREPLY < <(compgen -W "check show runbook" -- "$cur"); return; } ;;
	config) [ "$COMP_CWORD" -gt 2 ] || { mapfile -t COMPREPLY < <(compgen -W "show set" -- "$cur"); return; } ;;
	help) mapfile -t COMPREPLY < <(compgen -W "$(_spare_commands)" -- "$cur"); return ;;
	esac
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
complete -F _spare spare

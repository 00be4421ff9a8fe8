# tap.sh: sourced by every script of tests/e2e and tests/crash: results as TAP, helpers, and the shell at $WORK.
# Needs (scripts/test sets them): SPARE the program, WORK an empty directory, BUILD the build tree, SPARE_SRC the source.
# A script ends with `finish`. No sleeps: until_true polls with a deadline.
: "${SPARE:?}" "${WORK:?}" "${BUILD:?}" "${SPARE_SRC:?}"
cd "$WORK" || exit 1
n=0 bad=0

check() { # check NAME COMMAND...: passes when the command succeeds; else what it said is shown
	local name=$1
	shift
	n=$((n + 1))
	if "$@" >"$WORK/check.out" 2>&1; then echo "ok $n - $name"; else
		bad=$((bad + 1))
		echo "not ok $n - $name"
		tail -n 30 "$WORK/check.out" | sed 's/^/# /'
	fi
}
skip() { # skip NAME REASON
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}
skip_all() { # skip_all REASON: nothing of this script can run here
	echo "1..0 # SKIP $1"
	exit 0
}
# A helper that is called by a wrong name must not be a step left out.
command_not_found_handle() { echo "$1: command not found" | tee -a "$WORK/unknown.commands"; return 127; }
finish() {
	if [ -e "$WORK/unknown.commands" ]; then
		bad=$((bad + 1)) n=$((n + 1))
		echo "not ok $n - every command of the script exists"
		sed 's/^/# /' "$WORK/unknown.commands"
	fi
	echo "1..$n"
	[ $bad -eq 0 ]
	exit
}
exits() { # exits CODE COMMAND...: its exit status is CODE; what it printed is in out and err
	local want=$1 got
	shift
	timeout 60 "$@" >"$WORK/out" 2>"$WORK/err" </dev/null
	got=$?
	[ $got -eq "$want" ] || { echo "expected exit status $want, found $got: $*"; cat "$WORK/out" "$WORK/err"; return 1; }
}
says() { grep -qE -- "$1" "$WORK/err" || { echo "stderr does not say: $1"; cat "$WORK/err"; return 1; }; }
prints() { grep -qE -- "$1" "$WORK/out" || { echo "stdout does not say: $1"; cat "$WORK/out"; return 1; }; }
fails() { if "$@" 2>/dev/null; then echo "succeeded: $*"; return 1; fi; }
same() { [ "$1" = "$2" ] || { echo "expected: $1"; echo "found:    $2"; return 1; }; }
until_true() { # until_true COMMAND...: within 20 s
	local end=$((SECONDS + 20))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "not within 20 s: $*"; return 1; }
		read -r -t 0.05 _ <> <(:)
	done
	return 0
}
tool() { echo "$BUILD/tests/$1"; } # tool FOLDER/NAME: a program of the tests

need_fuse() { [ -e /dev/fuse ] || skip_all "there is no /dev/fuse"; }
need_root() { [ "$(id -u)" = 0 ] || skip_all "needs root"; }

# The daemons of one mount are told by their log file, LOG below $WORK: pids, supervisor and worker print process ids.
pids() { local p; for p in /proc/[0-9]*; do tr '\0' '\n' 2>/dev/null <"$p/cmdline" | grep -qE -- "log=$WORK/$1(,|$)" && echo "${p#/proc/}"; done; return 0; }
ppid() { local x; x=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; x=${x##*) ? }; echo "${x%% *}"; }
supervisor() { local p all; all=$(pids "$1"); for p in $all; do grep -qx "$(ppid "$p")" <<<"$all" || echo "$p"; done; return 0; }
worker() { local p all; all=$(pids "$1"); for p in $all; do grep -qx "$(ppid "$p")" <<<"$all" && echo "$p"; done; return 0; }
mounts() { awk '{ print $5 }' /proc/self/mountinfo | grep -cF "$WORK/$1"; }
gone() { [ "$(mounts "$1")" = 0 ]; } # gone DIR: nothing is mounted at or below it
no_daemon() { [ -z "$(pids "$1")" ]; }

# as_user SCRIPT ARG...: run it as an ordinary user, in a directory of his own with copies of what it needs, since he may not
# be able to read where this tree lies; its results become ours.
as_user() {
	local script=$1 dir rc before=$n line mounted
	shift
	dir=$(mktemp -d /tmp/spare-user.XXXXXX) || return 1
	mkdir -p "$dir/work" "$dir/src/tests/lib" "$dir/build/tests/e2e" && mkdir -m 700 "$dir/run" &&
		cp "$SPARE" "$dir/build/spare" && cp "$BUILD"/tests/e2e/* "$dir/build/tests/e2e/" 2>/dev/null
	cp "$SPARE_SRC"/tests/lib/*.{sh,py} "$dir/src/tests/lib/" && cp "$script" "$dir/script" && chown -R 65534:65534 "$dir" && chmod 755 "$dir" "$dir/script"
	env -u SPARE_STORE SPARE="$dir/build/spare" BUILD="$dir/build" SPARE_SRC="$dir/src" WORK="$dir/work" HOME="$dir/work" \
		XDG_RUNTIME_DIR="$dir/run" setpriv --reuid 65534 --regid 65534 --clear-groups "$dir/script" "$@" >"$WORK/user.tap" 2>&1
	rc=$?
	while IFS= read -r line; do
		case $line in
		'ok '*) n=$((n + 1)); echo "ok $n - ${line#*- }" ;;
		'not ok '*) n=$((n + 1)); bad=$((bad + 1)); echo "not ok $n - ${line#*- }" ;;
		1..*) ;;
		*) echo "# ${line#\# }" ;;
		esac
	done <"$WORK/user.tap"
	[ $n -gt "$before" ] && { [ $rc = 0 ] || [ $bad -gt 0 ]; } || { n=$((n + 1)) bad=$((bad + 1)); echo "not ok $n - as an ordinary user: exit status $rc"; }
	while read -r mounted; do umount -l "$mounted"; done < <(awk -v d="$dir/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac)
	rm -rf --one-file-system "$dir"
}

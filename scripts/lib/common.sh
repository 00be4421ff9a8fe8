# Shared by scripts/setup, scripts/run and scripts/test; sourced, never run. Needs bash.
# Sets: ROOT, the top of the tree; JOBS, how many compilers run at once.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}

# What it takes to build and mount, and what the tests use besides.
PACKAGES_BUILD=(autoconf automake make gcc libc6-dev pkgconf fuse3 libfuse3-dev librocksdb-dev
	libzstd-dev libxxhash-dev libjansson-dev libyaml-dev libssl-dev libcurl4-openssl-dev libmicrohttpd-dev check)
PACKAGES_TEST=(acl attr git iproute2 openssh-client openssl procps python3 sqlite3 strace util-linux)

say() { printf '%s\n' "$*" >&2; }
die() {
	say "$(basename "$0"): $*"
	exit 1
}

# missing_packages NAME...: prints those that dpkg does not know as installed.
missing_packages() {
	local p
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages NAME...: apt is not called at all when nothing is missing.
install_packages() {
	local missing
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		say "not a Debian system: nothing is installed. What is needed: $*"
		return 0
	fi
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -eq 0 ] && return 0
	if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
		die "these packages are missing and neither root nor sudo is at hand: ${missing[*]}"
	fi
	say "installing: ${missing[*]}"
	local apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o DPkg::Lock::Timeout=300)
	as_root "${apt[@]}" update </dev/null >&2 || die "apt-get update failed"
	as_root "${apt[@]}" --no-install-recommends install "${missing[@]}" </dev/null >&2 ||
		die "apt-get install failed for: ${missing[*]}"
}

# fetch_sshd DIR: an ssh server for the tests: prints its program. Unpacked there and not installed, since installing starts one.
fetch_sshd() {
	local deb libs
	if [ -x /usr/sbin/sshd ]; then echo /usr/sbin/sshd; return; fi
	if [ ! -x "$1/usr/sbin/sshd" ]; then
		mkdir -p "$1" && (
			get() { apt-get -qq -o APT::Sandbox::User= download openssh-server; }
			cd "$1" && { get 2>/dev/null || { as_root apt-get -qq update && get; }; } &&
				for deb in openssh-server_*.deb; do dpkg-deb -x "$deb" . && rm -f -- "$deb"; done
		) >&2 || return 1
	fi
	# The libraries it is linked with; of what else it depends on nothing is needed to serve a key.
	mapfile -t libs < <(apt-cache depends openssh-server | sed -n 's/^ *Depends: \(lib[a-z0-9.+-]*\)$/\1/p' | grep -v '^libpam-')
	install_packages "${libs[@]}" >&2 || return 1
	echo "$1/usr/sbin/sshd"
}

# fuse_device: makes /dev/fuse usable if that is possible; else says why not on stdout, returns 1.
fuse_device() {
	if [ ! -e /dev/fuse ]; then
		if [ "$(id -u)" -ne 0 ]; then
			echo "/dev/fuse does not exist (try: sudo modprobe fuse)"
			return 1
		fi
		modprobe fuse 2>/dev/null || true
		[ -e /dev/fuse ] || { mknod /dev/fuse c 10 229 2>/dev/null && chmod 666 /dev/fuse; } || true
	fi
	# fusermount3 reads it; a bare root may lack it.
	[ "$(id -u)" -ne 0 ] || [ -e /etc/mtab ] || ln -s /proc/self/mounts /etc/mtab
	if [ ! -e /dev/fuse ]; then
		echo "/dev/fuse does not exist and cannot be made"
		return 1
	fi
	if ! (exec 3<>/dev/fuse) 2>/dev/null; then
		echo "/dev/fuse cannot be opened by user $(id -un)"
		return 1
	fi
	return 0
}

# host_id ARG...: changes when objects and generated files of one system do not suit another.
host_id() {
	(
		. /etc/os-release 2>/dev/null || true
		echo "${ID-unknown}-${VERSION_ID-} $(uname -m) $(automake --version | head -n 1) root=$ROOT args=$*"
	)
}

# configure_tree DIR ARG...: brings ROOT/DIR to a configured state; cheap when it is already.
configure_tree() {
	local dir=$ROOT/$1 want
	shift
	want=$(host_id "$@")
	if [ -f "$ROOT/Makefile.in" ] &&
		! head -n 1 "$ROOT/Makefile.in" | grep -qF "automake $(automake --version | sed -n '1s/.* //p') "; then
		rm -f "$ROOT/configure" "$ROOT/Makefile.in" "$ROOT/aclocal.m4"
	fi
	if [ ! -x "$ROOT/configure" ] || [ ! -f "$ROOT/Makefile.in" ]; then
		say "autoreconf"
		(cd "$ROOT" && ./autogen.sh) || return 1
	fi
	if [ "$(cat "$dir/.host" 2>/dev/null)" != "$want" ]; then
		rm -rf "$dir"
	fi
	if [ ! -f "$dir/Makefile" ]; then
		mkdir -p "$dir" || return 1
		(cd "$dir" && "$ROOT/configure" --quiet "$@") || return 1
		printf '%s\n' "$want" >"$dir/.host"
	fi
}

# in_own_mounts COMMAND...: in a mount name space of its own, into which nobody copies mounts, and which holds none that others made by FUSE: such a mount ends only when no name space has it.
in_own_mounts() {
	unshare -m --propagation private bash -c '
		awk "/ - fuse/ { print \$5 }" /proc/self/mountinfo | tac | while read -r m; do umount -l "$m"; done
		exec "$@"' - "$@"
}

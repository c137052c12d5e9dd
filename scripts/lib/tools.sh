# shellcheck shell=bash
# What the scripts share: saying things, and installing what is missing. Tools
# that are built from source are kept outside the tree and built once a version.

TOOLS="${XDG_CACHE_HOME:-$HOME/.cache}/ingestd-tools"
export TOOLS

say() { printf '\n== %s\n' "$*"; }

die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# need COMMAND PACKAGE…: have a command, from Debian's packages if it is missing.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return
	local as=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "$command is missing: install $* (apt-get install $*) and start again"
		as=(sudo)
	fi
	say "installing $* (apt-get): $command is missing"
	"${as[@]}" apt-get update -qq
	"${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need_libusb: have the C library that gousb is built with, and a compiler for it.
need_libusb() {
	need gcc gcc libc6-dev
	need pkg-config pkg-config
	# A header is no command that need could look for.
	pkg-config --exists libusb-1.0 || need /usr/include/libusb-1.0/libusb.h libusb-1.0-0-dev
}

# need_go NAME MODULE@VERSION: have $TOOLS/NAME, built of exactly this version.
need_go() {
	local name=$1 what=$2
	if [ -x "$TOOLS/$name" ] && [ "$(cat "$TOOLS/$name.version" 2>/dev/null)" = "$what" ]; then
		return
	fi
	say "building $name ($what), once"
	mkdir -p "$TOOLS"
	GOBIN=$TOOLS CGO_ENABLED=0 go install "$what"
	printf '%s' "$what" >"$TOOLS/$name.version"
}

MINIO=github.com/minio/minio@v0.0.0-20250907161309-07c3a429bfed
GOLANGCI=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
RCLONE=github.com/rclone/rclone@v1.76.0
NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 # later ones do not build
export MINIO GOLANGCI RCLONE NFPM

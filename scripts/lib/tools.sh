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

# need_unpacked NAME PACKAGE…: have Debian's packages unpacked in $TOOLS/NAME, for a
# program in them. To install them would start a service on this machine.
need_unpacked() {
	local name=$1 at deb
	shift
	[ -d "$TOOLS/$name" ] && return
	say "unpacking $* (apt-get download) into $TOOLS/$name"
	at=$(mktemp -d)
	# As whoever asks, not as apt's own user, who can't write there.
	(cd "$at" && apt-get -o "APT::Sandbox::User=$(id -un)" download -qq "$@") || die "$* can't be downloaded: apt-get update, and start again"
	for deb in "$at"/*.deb; do dpkg-deb -x "$deb" "$at/root"; done
	mkdir -p "$TOOLS"
	chmod 755 "$at/root"
	mv "$at/root" "$TOOLS/$name"
	rm -rf "$at"
}

# need_libusb: have the C library that gousb is built with, and a compiler for it.
need_libusb() {
	need gcc gcc libc6-dev
	need pkg-config pkg-config
	# A header is no command that need could look for.
	pkg-config --exists libusb-1.0 || need /usr/include/libusb-1.0/libusb.h libusb-1.0-0-dev
}

# need_browser: have Chromium, and letters for Chinese, without which every page fits.
need_browser() {
	need chromium chromium
	need fc-list fontconfig
	# A font is no command that need could look for.
	fc-list :lang=zh-cn | grep -q 'Noto Sans CJK' || need /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc fonts-noto-cjk
}

# need_axe: have axe-core in $TOOLS, and name it in BODYWORN_AXE. Without the network the
# test that needs it is skipped and says so.
need_axe() {
	local dir=$TOOLS/axe-core-$AXE
	if [ ! -s "$dir/axe.min.js" ]; then
		need curl curl ca-certificates
		say "fetching axe-core $AXE, once"
		local work sum
		work=$(mktemp -d)
		if ! curl -q -sSfL -m 120 -o "$work/axe-core-$AXE.tgz" "https://registry.npmjs.org/axe-core/-/axe-core-$AXE.tgz"; then
			printf 'axe-core could not be fetched\n' >&2
			rm -rf "$work"
			return 0
		fi
		sum=$(openssl dgst -sha512 -binary "$work/axe-core-$AXE.tgz" | base64 -w 0)
		[ "$sum" = "$AXE_SHA512" ] || die "axe-core-$AXE.tgz has SHA-512 $sum, which is not the one that was looked at"
		mkdir -p "$dir"
		tar -xzf "$work/axe-core-$AXE.tgz" -C "$work" package/axe.min.js package/LICENSE
		mv "$work/package/LICENSE" "$work/package/axe.min.js" "$dir/"
		rm -rf "$work"
	fi
	export BODYWORN_AXE=$dir/axe.min.js
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
AXE=4.14.1
AXE_SHA512=FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
RCLONE=github.com/rclone/rclone@v1.76.0
NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 # later ones do not build
export MINIO GOLANGCI RCLONE NFPM

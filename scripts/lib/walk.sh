# shellcheck shell=bash disable=SC2034 # the scripts that source this tell of $current
# What scripts/demo and scripts/proof share: steps that show the command that they run.

steps=0 current="the beginning"

step() {
	current=$*
	printf '\n\n[%d] %s\n' "$((++steps))" "$*"
}
typed() { printf '\n  $ %s\n' "${1//$'\n'/$'\n'    }"; }
bare() { typed "$1" && eval "$1"; }                      # its output as it is: a progress bar
show() { typed "$1" && eval "$1" 2>&1 | sed 's/^/  /'; } # its output indented
true_that() { # WORDS COMMAND…: the step fails unless the command succeeds
	local words=$1
	shift
	if "$@"; then printf '  yes: %s\n' "$words"; else die "NOT true: $words"; fi
}
holds() { jq -e "$2" "$1" >/dev/null; } # FILE FILTER: it is true of the JSON in the file
within() { # SECONDS COMMAND…: until the command succeeds
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}
flip() { # FILE: changes one bit in its middle; a second time, changes it back
	local at byte
	at=$(($(stat -c %s "$1") / 2))
	byte=$(od -An -tu1 -j "$at" -N 1 "$1")
	# shellcheck disable=SC2059
	printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

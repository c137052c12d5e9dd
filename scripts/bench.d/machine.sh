# shellcheck shell=bash
# What scripts/bench measures with: cards on devices of their own, a server, and
# one command after the other with its time, CPU, memory and reads of the card.

MC=v0.0.0-20250313080218-cf909e1063a9
S5CMD=v2.3.0

work='' out='' server='' port=''
groups=() # control groups that what is measured runs in
dirs=() devices=() total=0

# need_module NAME MODULE VERSION: have $TOOLS/NAME. Not by go install, which asks
# for the list of a module's versions, and not every mirror has that.
need_module() {
	local name=$1 module=$2 version=$3 at
	if [ -x "$TOOLS/$name" ] && [ "$(cat "$TOOLS/$name.version" 2>/dev/null)" = "$module@$version" ]; then
		return
	fi
	say "building $name ($module@$version), once"
	mkdir -p "$TOOLS"
	at=$(mktemp -d)
	printf 'module build\ngo 1.26\nrequire %s %s\n' "$module" "$version" >"$at/go.mod"
	printf '//go:build tools\npackage build\nimport _ "%s"\n' "$module" >"$at/build.go"
	(cd "$at" && CGO_ENABLED=0 go build -mod=mod -o "$TOOLS/$name" "$module")
	rm -r "$at"
	printf '%s' "$module@$version" >"$TOOLS/$name.version"
}

skip() {
	printf 'left out: %s: %s\n' "$1" "$2"
	printf '%s was left out: %s.\n' "$1" "$2" >>"$work/notes"
}

finish() {
	drop_cards
	if [ -n "$server" ]; then
		kill "$server" 2>/dev/null || true
		wait "$server" 2>/dev/null || true
	fi
	leave_groups
	[ -z "$work" ] || rm -rf "$work"
}

# make_card N BYTES: an empty file system on a device of its own where that can be
# had, else a folder.
make_card() {
	local dir=$work/media/$1 image=$work/card$1.img device=''
	mkdir -p "$dir"
	if [ "$(id -u)" -eq 0 ] && truncate -s "$2" "$image"; then
		device=$(losetup --find --show --direct-io=on "$image" 2>/dev/null || losetup --find --show "$image" 2>/dev/null) || device=''
	fi
	if [ -n "$device" ]; then
		mkfs.ext4 -q -m 0 "$device" 2>/dev/null
		mount "$device" "$dir"
		rmdir "$dir/lost+found"
	else
		grep -qs '^Bytes read' "$work/notes" || printf 'Bytes read from the card were not measured: no root, or no loop device.\n' >>"$work/notes"
	fi
	dirs+=("$dir") devices+=("$device")
}

fill_card() { # N FLAGS…: adds to a card
	local dir=$work/media/$1
	shift
	"$work/mkcard" -dir "$dir/DATA$(find "$dir" -mindepth 1 -maxdepth 1 | wc -l)" "$@" >/dev/null
}

# seal_card INDEX: nobody writes to it any more. Param.ini belongs in its root.
seal_card() {
	local dir=${dirs[$1]} device=${devices[$1]}
	find "$dir"/DATA0 -maxdepth 1 -iname param.ini -exec mv {} "$dir/" \;
	[ -z "$device" ] || { umount "$dir" && mount -o ro "$device" "$dir"; }
}

drop_cards() {
	local n
	for n in "${!dirs[@]}"; do
		if [ -n "${devices[$n]}" ]; then
			umount "${dirs[$n]}" 2>/dev/null || true
			losetup -d "${devices[$n]}" 2>/dev/null || true
		fi
		rm -rf "${dirs[$n]}" "$work/card$((n + 1)).img"
	done
	dirs=() devices=()
}

# group CONTROLLER: makes a control group for what is measured and prints its folder.
# Version 1 has a tree for each controller, in version 2 one group has them all.
group() {
	local at=/sys/fs/cgroup/$1 controller=$1
	if [ ! -d "$at" ]; then
		at=/sys/fs/cgroup
		[ "$controller" != blkio ] || controller=io
		grep -qsw "$controller" "$at/cgroup.subtree_control" || return 1
	fi
	mkdir -p "$at/bodyworn-bench-$$" 2>/dev/null || return 1
	printf '%s' "$at/bodyworn-bench-$$"
}

# throttle BYTES: holds each card's device to so many bytes in a second.
throttle() {
	local device numbers at
	[ "$(id -u)" -eq 0 ] && [ -n "${devices[0]}" ] && at=$(group blkio) || return 1
	groups+=("$at")
	for device in "${devices[@]}"; do
		numbers=$(lsblk -dno MAJ:MIN "$device" | tr -d ' ')
		if [ -e "$at/io.max" ]; then
			echo "$numbers rbps=$1" >"$at/io.max" || return 1
		else
			echo "$numbers $1" >"$at/blkio.throttle.read_bps_device" || return 1
		fi
	done
	printf 'Slow cards were loop devices that a control group held to %s bytes/s.\n' "$1" >>"$work/notes"
}

# confine BYTES: lets each program have so much memory, with what the system keeps
# of the card for it. A card that is larger has to be read anew for each pass.
confine() {
	local at
	if ! at=$(group memory) || ! { echo "$1" >"$at/memory.max" || echo "$1" >"$at/memory.limit_in_bytes"; } 2>/dev/null; then
		printf 'No control group for memory: the page cache was dropped before each command, and could keep the card during it.\n' >>"$work/notes"
		return
	fi
	groups+=("$at")
	printf 'On "card" and "slow" each program had %s MiB of memory, page cache included, a quarter of the card or 256 MiB.\n' "$(($1 >> 20))" >>"$work/notes"
}

leave_groups() {
	local at
	for at in "${groups[@]}"; do
		rmdir "$at" 2>/dev/null || true # one group may be there twice
	done
	groups=()
}

start_server() {
	local key=bench$RANDOM secret
	secret=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
	port=$((20000 + RANDOM % 20000))
	MINIO_ROOT_USER=$key MINIO_ROOT_PASSWORD=$secret "$TOOLS/minio" server --quiet --address "127.0.0.1:$port" --console-address "127.0.0.1:$((port + 1))" "$work/minio" >"$work/minio.log" 2>&1 &
	server=$!
	for _ in $(seq 300); do
		if curl -fs "http://127.0.0.1:$port/minio/health/live"; then break; fi
		sleep 0.1
	done
	printf 'access_key: %s\nsecret_key: %s\n' "$key" "$secret" >"$work/keys"
	chmod 600 "$work/keys"
	export RCLONE_CONFIG="$work/rclone.conf" MC_CONFIG_DIR="$work/mc"
	export MC_HOST_minio="http://$key:$secret@127.0.0.1:$port"
	export AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret AWS_REGION=us-east-1 S3_ENDPOINT_URL="http://127.0.0.1:$port"
	printf '[minio]\ntype = s3\nprovider = Minio\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = http://127.0.0.1:%s\n' "$key" "$secret" "$port" >"$RCLONE_CONFIG"
}

# empty_server makes room. What is locked can't be deleted: the folders go.
empty_server() { rm -rf "${work:?}/minio/bench"* "$work/back"*; }

# measured COMMAND…: adds wall, CPU and the devices' reads to the row, and keeps the
# larger peak. The page cache is empty before.
row_wall=0 row_cpu=0 row_rss=0 row_read=0
measured() {
	local before after wall user sys rss
	sync
	[ ! -w /proc/sys/vm/drop_caches ] || echo 3 >/proc/sys/vm/drop_caches
	before=$(sectors)
	# shellcheck disable=SC2016 # for the inner shell
	/usr/bin/time -o "$work/time" -f '%e %U %S %M' bash -c 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" && shift || exit; done; shift && exec "$@"' in \
		"${groups[@]}" -- "$@" >"$work/out" 2>&1 || { cat "$work/out" && die "failed: $*"; }
	after=$(sectors)
	read -r wall user sys rss <"$work/time"
	row_wall=$(awk "BEGIN {print $row_wall + $wall}")
	row_cpu=$(awk "BEGIN {print $row_cpu + $user + $sys}")
	row_rss=$((rss > row_rss ? rss : row_rss))
	row_read=$((row_read + (after - before) * 512))
}
sectors() {
	local device
	for device in "${devices[@]}"; do
		[ -z "$device" ] || cat "/sys/block/${device#/dev/}/stat"
	done | awk '{s += $3} END {printf "%.0f", s}'
}

row() { # WORKLOAD TOOL RUN: closes the row
	local passes=-
	[ -z "${devices[0]}" ] || passes=$(awk "BEGIN {printf \"%.3f\", $row_read / $total}")
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$row_wall" "$(awk "BEGIN {printf \"%.3f\", $row_cpu / ($total / 1e9)}")" \
		"$((row_rss / 1024))" "$passes" "$(awk "BEGIN {printf \"%.3f\", $total / 1e9}")" >>"$out/results.tsv"
	row_wall=0 row_cpu=0 row_rss=0 row_read=0
}

plain_read() {
	# shellcheck disable=SC2016 # for the inner shell
	measured bash -c 'for dir; do find "$dir" -type f -exec dd if={} of=/dev/null bs=1M iflag=direct status=none \; & done; wait' _ "${dirs[@]}"
}

machine() {
	printf '%s, %s × %s, %s MiB of memory, Linux %s, %s; MinIO %s, rclone %s, mc %s, s5cmd %s, on the same machine' \
		"$(date -u +%F)" "$(nproc)" "$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)" "$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)" \
		"$(uname -r | cut -d- -f1)" "$(go env GOVERSION)" "${MINIO##*@}" "${RCLONE##*@}" "$MC" "$S5CMD"
}

# shellcheck shell=bash
# How each program of scripts/bench does the whole job. All give the same: a list of
# SHA-256, the files in a bucket, and the proof that the stored bytes have them.

# take_in TOOL NAME DIR…: cards into a bucket that is not there yet.
take_in() {
	local tool=$1 bucket=bench-$1-$2
	shift 2
	case $tool in
	ingestd) run_ingestd "$bucket" readback "$@" ;;
	ingestd-server) run_ingestd "$bucket" checksum "$@" ;;
	rclone)
		"$TOOLS/rclone" mkdir "minio:$bucket"
		each rclone_sums "$@" && each rclone_copy "$@" && each rclone_check "$@"
		;;
	rclone-tuned)
		"$TOOLS/rclone" mkdir "minio:$bucket"
		each rclone_sums "$@" && each rclone_tuned "$@" && each rclone_check "$@"
		;;
	mc | s5cmd)
		"$TOOLS/mc" --quiet mb "minio/$bucket" >/dev/null
		each openssl_sums "$@" && each "${tool}_copy" "$@" && each "${tool}_back" "$@" && each openssl_check "$@"
		;;
	esac
}

# each STEP DIR…: one step for all cards at once, a process for each.
each() {
	local step=$1 program
	shift
	program=$(declare -f "$step")
	export TOOLS work bucket
	# shellcheck disable=SC2016 # for the inner shell
	measured bash -c 'set -euo pipefail; '"$program"'
		jobs=() n=0
		for dir; do n=$((n + 1)); '"$step"' "$dir" "$n" & jobs+=($!); done
		for job in "${jobs[@]}"; do wait "$job"; done' _ "$@"
}

# The steps: DIR NUMBER. They run in a shell of their own.
# shellcheck disable=SC2154 # bucket is exported
rclone_sums() { "$TOOLS/rclone" hashsum sha256 "$1" --output-file "$work/sums$2"; }
rclone_copy() { "$TOOLS/rclone" copy "$1" "minio:$bucket/$2"; }
# --s3-disable-checksum alone leaves the MD5 of files that go up in one request.
rclone_tuned() {
	"$TOOLS/rclone" copy "$1" "minio:$bucket/$2" --transfers 4 --multi-thread-streams 4 --multi-thread-chunk-size 16M \
		--s3-chunk-size 16M --s3-upload-concurrency 4 --s3-disable-checksum --local-hashes crc32 --ignore-checksum
}
rclone_check() { "$TOOLS/rclone" checksum sha256 "$work/sums$2" "minio:$bucket/$2" --download; }
# Debian's sha256sum takes four times the CPU of openssl: beating it is no merit.
openssl_sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 openssl dgst -sha256 -r) >"$work/sums$2"; }
openssl_check() { (cd "$work/back$2" && find . -type f -print0 | sort -z | xargs -0 openssl dgst -sha256 -r) | cmp - "$work/sums$2"; }
mc_copy() { "$TOOLS/mc" --quiet mirror "$1" "minio/$bucket/$2"; }
mc_back() { "$TOOLS/mc" --quiet mirror "minio/$bucket/$2" "$work/back$2"; }
s5cmd_copy() { "$TOOLS/s5cmd" --log error cp "$1/" "s3://$bucket/$2/"; }
s5cmd_back() { "$TOOLS/s5cmd" --log error cp "s3://$bucket/$2/*" "$work/back$2/"; }

# shellcheck disable=SC2154 # port is of machine.sh
# run_ingestd BUCKET VERIFICATION DIR…: one card by the command, several by the
# daemon, which sees them as mounts.
run_ingestd() {
	local bucket=$1 verification=$2 config=$work/$1.yaml
	shift 2
	cat >"$config" <<EOF
station: {id: BENCH-1}
board: {listen: ""}
state_dir: $bucket-state
storage:
  kind: s3
  bucket: $bucket
  s3: {endpoint: "127.0.0.1:$port", tls: false, credentials_file: keys}
ingest: {verify: $verification, parallel: 20}
log: {format: json}
sources: [{path: "$work/media", kind: mounts}]
EOF
	# The lock self-test of a new bucket waits six seconds for a lock to end.
	"$work/ingestd" --config "$config" run --check-only >"$work/out" 2>&1 || { cat "$work/out" && die "ingestd is not ready"; }
	if [ $# -eq 1 ]; then
		measured "$work/ingestd" --config "$config" -q ingest "$1" --recorder BENCH
		return
	fi
	# shellcheck disable=SC2016 # for the inner shell
	measured bash -c '"$1" --config "$2" run >"$3" 2>&1 &
		for _ in $(seq 36000); do
			if [ "$(grep -c "\"ingest.finished\"" "$3")" -ge "$4" ]; then break; fi
			kill -0 $! || exit 1
			sleep 0.1
		done
		kill -TERM $! && wait $!; [ "$(grep -c "\"ingest.finished\"" "$3")" -ge "$4" ]' _ "$work/ingestd" "$config" "$work/daemon.log" $#
}

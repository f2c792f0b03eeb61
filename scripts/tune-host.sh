#!/usr/bin/env bash
# Prints (and with --apply sets) the kernel settings that matter for many connections on a host,
# each with its value, what is wanted, and why. Idempotent; changes nothing on disk.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/tune-host.sh [--connections N] [--apply | --conf]

Prints what this host has and what N connections want.

  --connections N  size for N connections on this host (default 1000000)
  --apply          set what differs, until the next boot (needs root)
  --conf           print the wanted settings as a file for /etc/sysctl.d, and nothing else
  --help           this text

Exit codes: 0 done, 1 a setting could not be changed (or no root), 2 wrong arguments.
TEXT
}

wrong() {
    echo "tune-host.sh: $1; see --help" >&2
    exit 2
}

mode=print
connections=1000000
while [ $# -gt 0 ]; do
    case "$1" in
        --apply | --conf)
            [ "$mode" = print ] || wrong "--apply and --conf do not go together"
            mode=${1#--}
            ;;
        --connections)
            connections=${2:-}
            [[ "$connections" =~ ^[1-9][0-9]{0,8}$ ]] ||
                wrong "--connections is \"$connections\"; allowed is 1 to 999999999"
            shift
            ;;
        --help | -h) usage; exit 0 ;;
        *) wrong "unknown argument \"$1\"" ;;
    esac
    shift
done
if [ "$mode" = apply ] && [ "$(id -u)" != 0 ]; then
    echo "tune-host.sh: --apply needs root: sudo $0 --apply; without it this only prints" >&2
    exit 1
fi

differ=0
failed=0

section() {
    if [ "$mode" = conf ]; then echo "# $1"; else echo "$1"; fi
}

# show NAME VALUE TEXT: a line, and the reason below it.
show() {
    [ "$mode" = conf ] && return
    printf '  %-36s %s\n' "$1" "$2"
    [ -z "$3" ] || fold -s -w 88 <<<"$3" | sed 's/^/      /; s/ *$//'
}

# at_least NOW VALUE: of each, the last number counts. (19 digits are as good as no bound, and
# more than the shell can compare.)
at_least() {
    local now=${1##* } value=${2##* }
    [[ "$now" =~ ^[0-9]+$ ]] && { [ "${#now}" -ge 19 ] || [ "$now" -ge "$value" ]; }
}

# want KIND NAME VALUE REASON: KIND is min (at least VALUE) or is (exactly VALUE).
want() {
    local kind=$1 name=$2 value=$3 reason=$4 path=/proc/sys/${2//.//} now good=no
    if [ ! -e "$path" ]; then
        show "$name" "not on this kernel" ""
        return
    fi
    now=$(tr -s '\t ' ' ' <"$path" 2>/dev/null || echo unreadable)
    case "$kind" in
        min) if at_least "$now" "$value"; then good=yes; fi ;;
        is) if [ "$now" = "$value" ]; then good=yes; fi ;;
    esac
    if [ "$mode" = conf ]; then
        fold -s -w 88 <<<"$reason" | sed 's/^/# /; s/ *$//'
        if [ "$good" = yes ]; then value=$now; fi
        echo "$name = $value"
    elif [ "$good" = yes ]; then
        show "$name" "$now: ok" ""
    elif [ "$mode" = print ]; then
        differ=$((differ + 1))
        show "$name" "$now: want $value" "$reason"
    elif (echo "$value" >"$path") 2>/dev/null; then
        show "$name" "$now: set to $value" "$reason"
    else
        failed=$((failed + 1))
        show "$name" "$now: could NOT be set to $value" "$reason"
    fi
}

section "Descriptors, for $connections connections"
# No shard holds more: its table of registered files ends at 2^20.
files=$((connections + 65536 < 1048576 ? connections + 65536 : 1048576))
want min fs.nr_open "$files" \
    "The ceiling of every open-file limit. The limit counts for each shard by itself."
want min fs.file-max $((connections * 2 + 200000)) \
    "Every socket is a file, and a load test on this host has both ends of each connection."
show "open-file limit of this shell" "$(ulimit -Sn), hard $(ulimit -Hn)" \
    "uproar raises the soft limit to the hard one; each shard takes 90 % of it. For more: \
ulimit -Hn, LimitNOFILE= in a unit, or more shards (--shards)."

section "Accepting"
want min net.core.somaxconn 4096 \
    "The backlog that a shard asks for is cut to this, and a connect storm is refused beyond it."
want min net.ipv4.tcp_max_syn_backlog 8192 "Half-open connections in a connect storm."
want is net.ipv4.tcp_syncookies 1 "A flood of SYNs does not fill the backlog."
want min net.ipv4.tcp_max_orphans $((connections / 4 + 65536)) \
    "A closed socket is an orphan until its last bytes are acknowledged. Beyond this bound it is \
reset, and the error frame with it: a drain closes many at once."

section "Sending"
want is net.ipv4.tcp_congestion_control cubic \
    "bbr paces each connection with a timer: 11.5 us a send against 7.2 us, measured on loopback. \
Keep bbr where viewers are far away and lossy, and you pay for it."
want is net.ipv4.tcp_slow_start_after_idle 0 \
    "A quiet room's next burst does not begin with a small window again."
want is net.ipv4.tcp_wmem "4096 16384 262144" \
    "A send queue grows to 256 KiB, not to 4 MiB: what a frozen viewer costs at most. \
(engine.send_buffer_bytes sets it for uproar alone.)"
want min net.core.netdev_max_backlog 16384 \
    "The packets of one sweep wait here for the network's soft interrupt."

section "Memory"
want min net.ipv4.tcp_mem \
    "$((connections)) $((connections * 3 / 2)) $((connections * 2))" \
    "Pages of 4 KiB for all buffers of all connections: 8 KiB each before the kernel shrinks them."
show net.ipv4.tcp_rmem "$(tr -s '\t' ' ' </proc/sys/net/ipv4/tcp_rmem): leave" \
    "An empty receive queue costs nothing, and clients say little."
huge=/sys/kernel/mm/transparent_hugepage/enabled
show "transparent huge pages" "$(cat "$huge" 2>/dev/null || echo "not on this kernel")" \
    "madvise is good. always gives 2 MiB to the first touch of a table: more resident memory for \
an idle crowd. To change it: echo madvise > $huge"

section "Load testing from this host"
want is net.ipv4.ip_local_port_range "10240 65535" \
    "55,000 connections from each source address instead of 28,000; below it are ports that \
servers listen on, 7400 and 7480 among them."

section "io_uring (whether a host permits it is not for a script to change)"
show kernel.io_uring_disabled \
    "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo "not on this kernel")" \
    "0 permits it, 1 to privileged processes alone, 2 to none; without it uproar runs on epoll and \
says so."

if [ -e /proc/sys/net/netfilter/nf_conntrack_max ]; then
    section "Connection tracking (its module is loaded)"
    want min net.netfilter.nf_conntrack_max $((connections * 2)) \
        "A full table drops packets. Better: do not track the client port (NOTRACK)."
fi

if [ "$failed" -gt 0 ]; then
    echo "tune-host.sh: $failed settings could not be set; in a container, set them on its host" >&2
    exit 1
fi
case "$mode" in
    print)
        [ "$differ" = 0 ] && echo "All as wanted." ||
            echo "$differ differ. --apply sets them until the next boot; to keep them:" \
                "$0 --conf > /etc/sysctl.d/60-uproar.conf"
        ;;
    apply) echo "Done, until the next boot. To keep it: $0 --conf > /etc/sysctl.d/60-uproar.conf" ;;
esac

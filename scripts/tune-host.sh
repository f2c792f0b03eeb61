#!/usr/bin/env bash
# Prints (and with --apply sets) the kernel settings that matter for many connections on a host,
# each with its reason. Idempotent; nothing is written to disk: put what you want to keep into
# /etc/sysctl.d yourself.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/tune-host.sh [--apply] [--connections N]

  --apply          set what differs (needs root); without it only print
  --connections N  size for N connections on this host (default 1000000)

Exit codes: 0 done (or nothing to do), 1 a setting could not be changed, 2 wrong arguments.
TEXT
}

apply=no
connections=1000000
while [ $# -gt 0 ]; do
    case "$1" in
        --apply) apply=yes ;;
        --connections)
            shift
            connections=${1:-}
            [[ "$connections" =~ ^[1-9][0-9]{0,8}$ ]] || {
                echo "tune-host.sh: --connections is \"$connections\"; allowed is a number from 1" >&2
                exit 2
            }
            ;;
        --help | -h) usage; exit 0 ;;
        *) echo "tune-host.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
if [ "$apply" = yes ] && [ "$(id -u)" != 0 ]; then
    echo "tune-host.sh: --apply needs root; run it with sudo, or without --apply to only look" >&2
    exit 1
fi

failed=no

# want KIND KEY VALUE REASON: KIND min (at least VALUE), max (at most) or is (exactly).
want() {
    local kind=$1 key=$2 value=$3 reason=$4 now path
    path=/proc/sys/${key//./\/}
    if [ ! -e "$path" ]; then
        printf '  %-38s %-24s not on this kernel\n' "$key" "-"
        return
    fi
    now=$(tr -s '\t ' ' ' <"$path" 2>/dev/null || echo unreadable)
    local good=no
    case "$kind" in
        min) [[ "$now" =~ ^[0-9]+$ ]] && [ "$now" -ge "$value" ] && good=yes ;;
        max) [[ "$now" =~ ^[0-9]+$ ]] && [ "$now" -le "$value" ] && good=yes ;;
        is) [ "$now" = "$value" ] && good=yes ;;
    esac
    if [ "$good" = yes ]; then
        printf '  %-38s %-24s ok\n' "$key" "$now"
    elif [ "$apply" = no ]; then
        printf '  %-38s %-24s want %s\n      %s\n' "$key" "$now" "$value" "$reason"
    elif echo "$value" >"$path" 2>/dev/null; then
        printf '  %-38s %-24s set to %s\n      %s\n' "$key" "$now" "$value" "$reason"
    else
        printf '  %-38s %-24s could NOT be set to %s\n      %s\n' "$key" "$now" "$value" "$reason"
        failed=yes
    fi
}

echo "descriptors (for $connections connections)"
want min fs.nr_open $((connections + 65536)) \
    "the ceiling of every open-file limit; the limit itself counts per shard"
want min fs.file-max $((connections * 2 + 200000)) \
    "every socket is a file; a load test on the same host has both ends of each connection"
printf '  %-38s %-24s the hard limit of this shell; a shard takes 90 %% of it\n' "ulimit -Hn" "$(ulimit -Hn)"

echo "accepting"
want min net.core.somaxconn 4096 "the backlog a shard asks for is cut to this in a connect storm"
want min net.ipv4.tcp_max_syn_backlog 8192 "half-open connections in a connect storm"
want is net.ipv4.tcp_syncookies 1 "a SYN flood does not fill the backlog"

echo "sending"
want is net.ipv4.tcp_congestion_control cubic \
    "bbr paces every send with a timer: 11.5 us against 7.2 us a send on loopback; \
keep bbr where viewers are far and lossy"
want is net.ipv4.tcp_slow_start_after_idle 0 \
    "a quiet room's next burst does not begin with a small window"
want is net.ipv4.tcp_wmem "4096 16384 262144" \
    "a send queue grows to 256 KiB, not to 4 MiB: a frozen viewer costs less"
want min net.core.netdev_max_backlog 16384 "packets a sweep makes at once wait here for softirq"

echo "memory"
pages=$((connections * 8192 / 4096))
now_max=$(awk '{print $3}' /proc/sys/net/ipv4/tcp_mem)
if [ "$now_max" -ge "$pages" ]; then
    printf '  %-38s %-24s ok\n' net.ipv4.tcp_mem "$(tr -s '\t' ' ' </proc/sys/net/ipv4/tcp_mem)"
else
    want is net.ipv4.tcp_mem "$((pages / 2)) $((pages * 3 / 4)) $pages" \
        "8 KiB of buffers a connection before the kernel prunes"
fi

echo "load testing from this host"
want is net.ipv4.ip_local_port_range "1024 65535" \
    "64,000 connections for each source address instead of 28,000"

echo "io_uring"
want max kernel.io_uring_disabled 1 "2 forbids the ring; uproar then runs on epoll and says so"

if [ -e /proc/sys/net/netfilter/nf_conntrack_max ]; then
    echo "connection tracking"
    want min net.netfilter.nf_conntrack_max $((connections * 2)) \
        "a full table drops packets; better: do not track the client port"
fi

[ "$failed" = no ]

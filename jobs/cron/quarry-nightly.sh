#!/bin/sh
# Runs a Quarry job for one day, from cron. Usage: quarry-nightly.sh JOB [--set key=value]… ; the day goes in as --set date=…
# One at a time (a lock), one log per day, a retry where the exit code says that one may help.
#
#   QUARRY       the program                 (quarry, as PATH has it)
#   QUARRY_HOME  the folder it runs in, from which the job's relative paths count   (the folder of the job file's parent)
#   QUARRY_DATE  the day                     (yesterday)
#   QUARRY_LOGS  where logs and the lock are (/var/log/quarry)
#   QUARRY_TRIES attempts in all             (3)
#   QUARRY_WAIT  seconds between them        (600)
#
# It ends with the exit code of the last attempt: 0 done, 1 somebody must fix something, 2 failed for now, 3 done with rejects, 75 another
# run is under way. cron mails what it prints: nothing, unless the code is not 0.
set -u

if [ $# -lt 1 ]; then
    echo "usage: $0 JOB [--set key=value]..." >&2
    exit 64
fi
job=$(readlink -f -- "$1")
shift
quarry=${QUARRY:-quarry}
day=${QUARRY_DATE:-$(date -d yesterday +%F)}
logs=${QUARRY_LOGS:-/var/log/quarry}
tries=${QUARRY_TRIES:-3}
name=$(basename -- "$job" .toml)
log=$logs/$name-$day.log

mkdir -p -- "$logs" || exit 1
cd -- "${QUARRY_HOME:-$(dirname -- "$(dirname -- "$job")")}" || exit 1

# The lock is the open file: it goes with this process, however it ends. The store has a lock of its own; this one keeps a night that is
# still running from being retried against.
exec 9>"$logs/$name.lock"
if ! flock -n 9; then
    echo "$name: the run before this one is still under way; see $logs" >&2
    exit 75
fi

try=1
while :; do
    "$quarry" run "$job" --set "date=$day" --log-format plain "$@" >>"$log" 2>&1 9>&-
    code=$?
    if [ "$code" -ne 2 ] || [ "$try" -ge "$tries" ]; then
        break
    fi
    try=$((try + 1))
    echo "try $try of $tries follows in ${QUARRY_WAIT:-600} s" >>"$log"
    sleep "${QUARRY_WAIT:-600}"
done

# A month of logs is enough.
find "$logs" -name "$name-*.log" -mtime +30 -delete

if [ "$code" -ne 0 ]; then
    case $code in
        3) echo "$name of $day is done, with unreadable files or too many rejects; see the table \`rejects\`" ;;
        *) echo "$name of $day ended with exit code $code after $try tries; the end of $log:" ;;
    esac >&2
    tail -n 15 -- "$log" >&2
fi
exit "$code"

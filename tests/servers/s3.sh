#!/bin/bash
# An S3 server (Ceph's RADOS gateway, from Debian) on free ports of this machine, with its data in DIR: s3.sh DIR
#
# Prints what a client needs as NAME=value, then the URL of an empty bucket, and runs until its parent is gone or it is
# killed. With a DIR that was used before, the same server with the same data comes back, at the same address.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/guests/.cache/s3
mkdir -p "$1"
dir=$(cd "$1" && pwd)

install() {
    local debs=$cache/debs
    mkdir -p "$debs/partial"
    export DEBIAN_FRONTEND=noninteractive
    local get=(apt-get -qq -y --no-install-recommends -o Dir::Cache::archives="$debs" -o APT::Keep-Downloaded-Packages=1
        -o DPkg::Lock::Timeout=60 install ceph-mon ceph-osd radosgw)
    "${get[@]}" || { apt-get -qq update && "${get[@]}"; }
}
{ command -v ceph-mon && command -v ceph-osd && command -v radosgw; } >/dev/null || install >"$dir/install.log" 2>&1 || {
    echo "s3.sh: ceph could not be installed; see $dir/install.log" >&2
    # What is there says that it can be got.
    rm -rf "$cache/debs/partial"
    rmdir "$cache/debs" "$cache" 2>/dev/null || true
    exit 1
}

[ -e "$dir/made" ] || python3 tests/servers/free_ports.py 2 >"$dir/ports"
read -r mon gateway <"$dir/ports"

fsid=6f0c4b1e-1d0a-4b5e-9d6c-2a9b1f6f7a10
osd_id=5a1b6a5e-7a35-4a5b-8f7e-0d1c2b3a4f5e
# One of each, no passwords among themselves, and as little memory as they take.
cat >"$dir/ceph.conf" <<END
[global]
fsid = $fsid
mon host = v1:127.0.0.1:$mon
# Where clients learn the fsid before they connect.
monmap = $dir/monmap
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind port min = 20000
ms bind port max = 29999
auth cluster required = none
auth service required = none
auth client required = none
run dir = $dir
admin socket =
log file = $dir/\$name.log
mon cluster log file = $dir/cluster.log
pid file =
keyring = $dir/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon max pg per osd = 2000
[mon.a]
mon data = $dir/mon
[osd]
osd data = $dir/osd
osd objectstore = bluestore
bluestore block size = 4294967296
bluestore fsck on mount = false
osd memory target = 939524096
osd op num shards = 1
osd op num threads per shard = 2
osd class update on start = false
[client.gateway]
rgw data = $dir/gateway
rgw frontends = beast endpoint=127.0.0.1:$gateway
rgw thread pool size = 64
rgw dns name = localhost
END
conf=(-c "$dir/ceph.conf")

# The monitor refuses some of its first clients at times ("wrong fsid"): then all of it is begun anew.
exec 3>&1 4>&2
again() {
    kill -9 $(jobs -p) 2>/dev/null || true
    wait
    if [ "${S3_ATTEMPT:-1}" -lt 4 ]; then
        S3_ATTEMPT=$((${S3_ATTEMPT:-1} + 1)) exec tests/servers/s3.sh "$dir" >&3 2>&4
    fi
    echo "s3.sh: the server does not start; see $dir/out.log" >&4
}
trap again ERR
# Dies with this script, even where that is killed.
trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT
run() {
    setpriv --pdeathsig KILL "$@" >>"$dir/out.log" 2>&1 &
}
ceph() { timeout 60 ceph "${conf[@]}" "$@"; }
[ -e "$dir/made" ] && new= || new=1
if [ $new ]; then
    rm -rf "$dir/mon" "$dir/osd" "$dir/gateway"
    mkdir -p "$dir/mon" "$dir/osd" "$dir/gateway"
    : >"$dir/keyring"
    monmaptool --create --addv a "[v1:127.0.0.1:$mon]" --fsid $fsid --clobber "$dir/monmap"
    ceph-mon "${conf[@]}" --mkfs -i a --monmap "$dir/monmap"
fi >>"$dir/out.log" 2>&1
run ceph-mon "${conf[@]}" -f -i a
if [ $new ]; then
    ceph osd new $osd_id 0
    ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid $osd_id
    ceph osd crush add osd.0 1.0 root=default host=here
fi >>"$dir/out.log" 2>&1
run ceph-osd "${conf[@]}" -f -i 0
run radosgw "${conf[@]}" -f -n client.gateway

url=http://127.0.0.1:$gateway
# Not secret: nobody else can reach it, and it holds nothing.
id=test
secret=not-secret
answers() {
    curl -s -o /dev/null -m 5 "$url/"
}
# Whether none of the three has ended.
all_run() {
    [ "$(jobs -pr | wc -l)" = 3 ]
}
for _ in $(seq 400); do
    answers && break
    all_run
    sleep 0.2
done
answers
if [ $new ]; then
    timeout 60 radosgw-admin "${conf[@]}" -n client.gateway user create --uid test --display-name test \
        --access-key $id --secret-key $secret >>"$dir/out.log" 2>&1
    # The sum is that of no bytes, which this curl does not send by itself.
    curl -s -f -m 60 --aws-sigv4 aws:amz:us-east-1:s3 -u "$id:$secret" -X PUT "$url/test" \
        -H x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    touch "$dir/made"
fi
echo "AWS_ACCESS_KEY_ID=$id"
echo "AWS_SECRET_ACCESS_KEY=$secret"
echo "AWS_REGION=us-east-1"
echo "AWS_ENDPOINT_URL=$url"
echo "s3://test"
# Until this script's parent or one of the servers is gone.
while kill -0 "$PPID" 2>/dev/null && all_run; do
    sleep 1
done

# shellcheck shell=sh disable=SC2034
# What the scripts of this image share; read with `.`. From the environment: HostIP, Masters (addresses of all members, comma
# separated), ClusterName, DataDir.
set -eu
: "${HostIP:?}" "${Masters:?}" "${ClusterName:?}"

config=/etc/etcd/etcd.yaml
data=${DataDir:-/var/lib/etcd}/$ClusterName
members=$(echo "$Masters" | tr ',' ' ')

# is_member: whether a member of etcd belongs on this host.
is_member() { case " $members " in *" $HostIP "*) true ;; *) false ;; esac; }

# name_of ADDRESS: a member's name.
name_of() { echo "etcd-$1" | tr '.:' '--'; }

# url ADDRESS PORT: an address of version 6 in brackets.
url() { case $1 in *:*) echo "http://[$1]:$2" ;; *) echo "http://$1:$2" ;; esac; }

# urls PORT FORMAT: all members, comma separated; FORMAT is `named` for name=URL.
urls() {
  list=
  for member in $members; do
    item=$(url "$member" "$1")
    [ "$2" != named ] || item=$(name_of "$member")=$item
    list=$list${list:+,}$item
  done
  echo "$list"
}

# wanted_config: what etcd.yaml must be on this host.
wanted_config() {
  cat << YAML
name: $(name_of "$HostIP")
data-dir: $data
listen-client-urls: $(url "$HostIP" 2379),http://127.0.0.1:2379
advertise-client-urls: $(url "$HostIP" 2379)
listen-peer-urls: $(url "$HostIP" 2380)
initial-advertise-peer-urls: $(url "$HostIP" 2380)
initial-cluster: $(urls 2380 named)
initial-cluster-token: $ClusterName
initial-cluster-state: new
YAML
}

# etcdctl_at URLS ARGUMENT...
etcdctl_at() {
  endpoints=$1
  shift
  ETCDCTL_API=3 etcdctl --endpoints "$endpoints" --dial-timeout 2s --command-timeout 5s "$@"
}

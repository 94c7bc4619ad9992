# shellcheck shell=bash
# Sourced, after lib.sh: a place as a node of the cluster that runs outside of the VM.
k=/share/kubernetes

# Directories that such a place has for itself.
# shellcheck disable=SC2034
node_paths=(/etc/cni /etc/containerd /etc/kubernetes /run/containerd /var/lib/containerd /var/lib/kubelet /var/log)

# node_port PLACE N: its port of the management network, eth0 with 10.0.3.N.
node_port() {
  ip link add "$1" type veth peer name eth0 netns "$1"
  ip link set "$1" up master mgmt
  ip -n "$1" -batch - <<B
link set eth0 up
addr add 10.0.3.$2/24 dev eth0
addr add fd00:3::$2/64 dev eth0 nodad
route add default via 10.0.3.1
B
}

# node_daemons PLACE NODE N IMAGES...: containerd with these archives of images, and a real kubelet.
node_daemons() {
  local place=$1 node=$2 n=$3 etc=/run/lab/root/$1/etc images; shift 3
  mkdir -p "/sys/fs/cgroup/$node" "$etc/cni/kubernetes.d"
  cat >"$etc/containerd/config.toml" <<T
version = 2
[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = "registry.local/pause:1"
[plugins.'io.containerd.grpc.v1.cri'.cni]
  bin_dir = '/opt/cni/bin'
  conf_dir = '/etc/cni/kubernetes.d'
T
  cat >"$etc/kubernetes/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $k/ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$node
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [10.96.0.10]
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: ""
Y
  # GOGC: the VM has memory to collect less often.
  define "$place" containerd GOGC=400 containerd
  # Statistics of containers, which nobody asks for, are a third of what a kubelet at rest does.
  define "$place" kubelet GOGC=400 /run/lab/bin/kubelet --kubeconfig $k/"$node".conf --config /etc/kubernetes/kubelet.yaml \
    --hostname-override "$node" --node-ip "10.0.3.$n,fd00:3::$n" --housekeeping-interval 10m
  start "$place" containerd
  within 120 "$place: containerd" place "$place" timeout 20 ctr version
  for images in "$@"; do place "$place" ctr -n k8s.io images import "$images" >/dev/null; done
  start "$place" kubelet
}

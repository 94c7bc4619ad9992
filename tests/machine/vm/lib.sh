# shellcheck shell=bash
# Sourced by what runs in the VM.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
pods=/var/lib/lab-pods

say() { printf '%7ss  %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# expect WANTED GOT WHAT: one assertion, one line.
expect() {
  if [ "$1" = "$2" ]; then say "ok      $3: $2"; else die "$3: '$2', not '$1'"; fi
}
# at_most LIMIT GOT UNIT WHAT: a figure that is printed, and held against its limit.
at_most() {
  if awk -v limit="$1" -v got="$2" 'BEGIN { exit !(got > 0 && got <= limit) }'; then say "ok      $4: $2 $3 (limit $1)"; else die "$4: $2 $3, more than $1"; fi
}

# within SECONDS WHAT CMD...: polls until CMD succeeds.
within() {
  local seconds=$1 what=$2 patience=10 end; shift 2
  patience=$(cat /share/patience)
  end=$((${EPOCHREALTIME/./} + seconds * patience * 100000))
  until "$@" >/dev/null 2>&1; do
    [ "${EPOCHREALTIME/./}" -lt $end ] || die "late: $what, after $((seconds * patience / 10)) s"
    sleep 0.3
  done
}

# --- What is looked at ---

show() { systemctl show --value --property="$2" "$1"; }
agent_pid() { show nic-agent MainPID; }
active() { [ "$(show "$1" ActiveState)" = active ]; }
# Ready, as systemd has heard it and as the agent says it.
ready() { active nic-agent && curl --silent --fail --max-time 10 http://127.0.0.1:9464/readyz; }
edge_ports() { ovs-vsctl --timeout=20 list-ports br-edge | grep '^pf0vf' | sort; }
edge_flows() { ovs-ofctl -O OpenFlow15 --names --no-stats dump-flows br-edge | sed -e 's/^ *//' | grep actions= | sort; }
in_pod() { local pod=$1; shift; ip netns exec "pod-$pod" "$@"; }
pings() { in_pod "$1" ping -n -q -c 2 -i 0.3 -W 3 "$2"; }

# --- What must go on ---

# Traffic that goes on while the agent does not, a ping each 100 ms. Lost is what later ones have overtaken.
begin_traffic() {
  ip netns exec pod-a ping -n -i 0.1 "$(pod b ip)" >/tmp/traffic & traffic=$!
}
stop_traffic() { kill -INT "$traffic"; wait "$traffic" || true; }
# The last ping that came back, and how many did.
count_pings() { sed -n 's/.*icmp_seq=\([0-9]*\) ttl.*/\1/p' /tmp/traffic | sort -nu | awk '{ last = $1; n++ } END { print last + 0, n + 0 }'; }
end_traffic() {
  local last received
  stop_traffic
  read -r last received < <(count_pings)
  [ "$last" -gt 20 ] || die "$1: only $last pings came back"
  expect 0 $((last - received)) "$1: pings lost, of $last"
}
remember_data_path() { edge_flows >/tmp/flows.before; edge_ports >/tmp/ports.before; }
same_data_path() {
  expect "$(paste -sd" " /tmp/ports.before)" "$(edge_ports | paste -sd" ")" "$1: ports on br-edge"
  edge_flows >/tmp/flows.after
  expect "" "$(diff /tmp/flows.before /tmp/flows.after | head -n 5)" "$1: difference of br-edge's $(wc -l </tmp/flows.before) flows"
}
# A process of the agent that is not PID, and ready.
another() { local now; now=$(agent_pid); [ "$now" != 0 ] && [ "$now" != "$1" ] && ready; }

# --- The server ---

# All VFs that are in the VM's own namespace, where they appear, become the server's.
to_server() {
  local f
  for f in /sys/bus/pci/devices/1001:03:*/net/*; do [ ! -e "$f" ] || echo "link set ${f##*/} netns server"; done | ip -batch -
}
vf_address() { basename "$(readlink "/sys/bus/pci/devices/1001:03:00.0/virtfn$1")"; }

# cni PLACE POD VF ADD|DEL|CHECK [RESULT]: host-shim as a runtime on the server runs it. PLACE: `server`, or `vm` where udev is.
# RESULT: the file with what ADD answered, which a runtime gives to CHECK.
cni() {
  local place=$1 pod=$2 vf=$3 verb=$4 result=${5:-/dev/null} enter=() uid container
  [ "$place" = vm ] || enter=(ip netns exec "$place")
  uid=$(jq -r .uid "$pods/$pod.json") container=$(jq -r .container "$pods/$pod.json")
  jq --arg pci "$(vf_address "$vf")" --slurpfile result "$result" '. + {deviceID: $pci} + (if $result == [] then {} else {prevResult: $result[0]} end)' /etc/cni/net.d/10-drawbridge.conf |
    "${enter[@]}" env -i PATH="$PATH" CNI_COMMAND="$verb" CNI_CONTAINERID="$container" CNI_NETNS="/run/netns/pod-$pod" CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
      CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=$pod;K8S_POD_INFRA_CONTAINER_ID=$container;K8S_POD_UID=$uid" /opt/cni/bin/host-shim
}

# add PLACE POD: CNI ADD, which must succeed; its result.
add() {
  local result
  result=$(cni "$1" "$2" "$(pod "$2" vf)" ADD) || die "CNI ADD of pod $2: $result"
  printf '%s\n' "$result"
}

# new_pod NAME VF: what Kubernetes, an OVN CMS and a container runtime do for a pod, up to the CNI call.
new_pod() {
  local name=$1 vf=$2 uid ip
  uid=$(cat /proc/sys/kernel/random/uuid) ip=10.244.1.$((vf + 10))
  mkdir -p "$pods"
  jq -n --arg name "$name" --arg uid "$uid" --arg ip "$ip" --arg ip6 "fd00:10:244::1:$((vf + 10))" --argjson vf "$vf" \
    --arg mac "$(printf '0a:58:0a:f4:01:%02x' $((vf + 10)))" --arg container "$(printf %s "$uid" | sha256sum | cut -c1-64)" \
    '{name: $name, uid: $uid, vf: $vf, ip: $ip, ip6: $ip6, mac: $mac, container: $container}' >"$pods/$name.json"
  ip netns add "pod-$name"
  ip -n "pod-$name" link set lo up
}
pod() { jq -r ".$2" "$pods/$1.json"; }

# The directory that the agent reads in place of the Kubernetes API: all pods, if there are any, renamed into place.
write_directory() {
  find "$pods" -name '*.json' -exec cat {} + |
    jq -s '{version: 1, pods: map({uid, namespace: "default", name, node: "server1", hostNetwork: false, phase: "Running"})}' >/etc/nic-agent/.pods.json
  mv /etc/nic-agent/.pods.json /etc/nic-agent/pods.json
}
# Logical ports of pods NAME..., in one transaction.
write_ports() {
  local name args=()
  for name in "$@"; do
    args+=(-- --may-exist lsp-add ls0 "default_$name" -- lsp-set-addresses "default_$name" "$(pod "$name" mac) $(pod "$name" ip) $(pod "$name" ip6)"
      -- lsp-set-port-security "default_$name" "$(pod "$name" mac) $(pod "$name" ip) $(pod "$name" ip6)")
  done
  ovn-nbctl --timeout=60 "${args[@]:1}"
}

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The test of simnic: inside the lab VM, as root, with simnic.ko and test/ beside it (or in /share). Prints a line for each
# check and ends with "N passed, N failed". Arguments: the parts to run (default: all).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$here/test" ] || here=/share
rm -f /run/simnic-count
parts=${*:-keys actions connections tunnels refusals identity life}
dmesg -n 3; dmesg -C
passed=0 failed=0
check() { # condition's exit status, name
  if [ "$1" = 0 ]; then passed=$((passed + 1)); echo "ok - $2"; else failed=$((failed + 1)); echo "not ok - $2"; fi; }
quiet() { ! dmesg | grep -E 'WARNING|BUG|Call Trace|Oops|general protection|leak|refcount|waiting for .* to become free|INFO: task|suspicious'; }
for part in $parts; do
  echo "# $part"
  for n in $(ip netns list | cut -d' ' -f1); do ip netns del "$n"; done
  insmod "$here/simnic.ko"; check $? "$part: the module loads"
  timeout 900 python3 "$here/test/$part.py"; check $? "$part: ran to its end"
  for _ in 1 2 3 4 5; do rmmod simnic 2>/dev/null; [ -e /sys/module/simnic ] || break; sleep 1; done
  [ ! -e /sys/module/simnic ]; check $? "$part: the module unloads"
  [ -z "$(ls -d /sys/bus/pci/devices/[12]0*:03:* 2>/dev/null)" ]; check $? "$part: no PCI function is left"
  quiet; check $? "$part: the kernel has nothing to say"
done
while read -r p f; do passed=$((passed + p)) failed=$((failed + f)); done </run/simnic-count
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

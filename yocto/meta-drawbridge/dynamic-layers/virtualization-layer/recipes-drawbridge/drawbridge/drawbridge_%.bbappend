# The agent has no work without Open vSwitch, which only meta-virtualization has.
RDEPENDS:nic-agent:append = " openvswitch"

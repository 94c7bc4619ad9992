SUMMARY = "What a SmartNIC and its server need of Drawbridge"
DESCRIPTION = "One group for the SmartNIC, with the tools that its documentation \
               names, and one for the server that the NIC sits in."
HOMEPAGE = "https://drawbridge.dev/"
BUGTRACKER = "https://drawbridge.dev/"
SECTION = "net"

inherit features_check packagegroup

REQUIRED_DISTRO_FEATURES = "systemd"

PACKAGES = "${PN}-nic ${PN}-server"

RDEPENDS:${PN}-nic = "\
    iproute2-devlink \
    iproute2-ip \
    iproute2-ss \
    iproute2-tc \
    nic-agent \
"

RDEPENDS:${PN}-server = "host-shim"

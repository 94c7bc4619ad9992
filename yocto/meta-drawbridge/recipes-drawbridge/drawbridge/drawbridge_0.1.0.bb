SUMMARY = "Kubernetes pod networking run from a SmartNIC"
SUMMARY:nic-agent = "Drawbridge's agent on the SmartNIC"
SUMMARY:host-shim = "Drawbridge's CNI plugin"
SUMMARY:cluster-controller = "Writes OVN's northbound from a cluster's pods and Services"
DESCRIPTION = "nic-agent enforces each pod's network boundary on the SmartNIC, \
               host-shim is the CNI plugin of the server that the NIC sits in, and \
               cluster-controller writes the northbound database of OVN."
HOMEPAGE = "https://drawbridge.dev/"
BUGTRACKER = "https://drawbridge.dev/"
SECTION = "net"
# Of what is written here. The crates' own licences: deny.toml lists which there may be.
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"
CVE_PRODUCT = "drawbridge"

# The commit that the repository of this layer is at. Somewhere else: README.md.
DRAWBRIDGE_SRC_URI ?= "git://${FILE_DIRNAME}/../../../..;protocol=file;usehead=1;nobranch=1"
SRC_URI = "${DRAWBRIDGE_SRC_URI}"
# What is checked out, is built; a layer cannot name the commit that it is part of.
# nooelint: oelint.vars.autorev
SRCREV ?= "${AUTOREV}"

require ${BPN}-crates.inc

inherit cargo cargo-update-recipe-crates features_check systemd

# The units are all that starts anything.
REQUIRED_DISTRO_FEATURES = "systemd"

CARGO_BUILD_FLAGS += "--package nic-agent --package host-shim --package cluster-controller"
# BitBake takes the symbols off by itself, and refuses a program from which they are gone already.
export CARGO_PROFILE_RELEASE_STRIP = "none"

do_install:append() {
    # Where Debian's packages, and so the units, have it; and where container runtimes look.
    install -d ${D}${nonarch_libdir}/cni ${D}/opt/cni/bin
    mv ${D}${bindir}/host-shim ${D}${nonarch_libdir}/cni/host-shim
    ln -s ${nonarch_libdir}/cni/host-shim ${D}/opt/cni/bin/host-shim

    install -d ${D}${systemd_system_unitdir} ${D}${nonarch_base_libdir}/udev/rules.d
    install -m 0644 ${S}/packaging/systemd/* ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/packaging/udev/*.rules ${D}${nonarch_base_libdir}/udev/rules.d

    install -D -m 0755 ${S}/packaging/host-shim/host-shim-vfs ${D}${nonarch_libdir}/host-shim/host-shim-vfs

    # No configuration comes along: one that ran by itself would make a chassis of the NIC.
    install -d -m 0750 ${D}${sysconfdir}/nic-agent
    install -d -m 0700 ${D}${sysconfdir}/nic-agent/tls ${D}${sysconfdir}/host-shim

    install -D -m 0644 ${S}/packaging/nic-agent.example.toml ${D}${docdir}/nic-agent/examples/nic-agent.example.toml
    install -d ${D}${docdir}/host-shim/examples
    install -m 0644 ${S}/packaging/host-shim/*.conf* ${D}${docdir}/host-shim/examples
    install -d ${D}${mandir}/man5 ${D}${mandir}/man8
    install -m 0644 ${S}/nic-agent/man/*.5 ${D}${mandir}/man5
    install -m 0644 ${S}/nic-agent/man/*.8 ${S}/host-shim/*.8 ${S}/cluster-controller/man/*.8 ${D}${mandir}/man8
}

PACKAGE_BEFORE_PN = "nic-agent host-shim cluster-controller"
# Everything is in one of these.
ALLOW_EMPTY:${PN} = "1"

FILES:nic-agent += "\
    ${bindir}/nic-agent \
    ${nonarch_base_libdir}/udev/rules.d/*nic-agent* \
    ${sysconfdir}/nic-agent \
    ${systemd_system_unitdir}/nic-agent* \
"
FILES:host-shim += "\
    /opt/cni/bin/host-shim \
    ${nonarch_base_libdir}/udev/rules.d/*host-shim* \
    ${nonarch_libdir}/cni/host-shim \
    ${nonarch_libdir}/host-shim/host-shim-vfs \
    ${sysconfdir}/host-shim \
    ${systemd_system_unitdir}/host-shim* \
"
FILES:cluster-controller += "${bindir}/cluster-controller"
CONFFILES:nic-agent += "${sysconfdir}/nic-agent/nic-agent.toml"
RDEPENDS:cluster-controller = "ca-certificates"
RDEPENDS:nic-agent = "ca-certificates"
# Built in or not there at all: no reason to fail.
RRECOMMENDS:nic-agent = "\
    kernel-module-act-ct \
    kernel-module-act-mirred \
    kernel-module-act-pedit \
    kernel-module-act-police \
    kernel-module-act-tunnel-key \
    kernel-module-cls-flower \
    kernel-module-geneve \
    kernel-module-nf-conntrack-netlink \
    kernel-module-nf-flow-table \
    kernel-module-openvswitch \
    kernel-module-sch-ingress \
    kernel-module-vport-geneve \
"

SYSTEMD_PACKAGES = "nic-agent host-shim"
SYSTEMD_SERVICE:nic-agent = "nic-agent.service nic-agent-close.service nic-agent-preflight.service nic-agent-preflight.timer"
SYSTEMD_SERVICE:host-shim = "host-shim-vfs.service"

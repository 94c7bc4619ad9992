# Only for machines that say they are such a NIC: MACHINEOVERRIDES .= ":drawbridge-nic". For any other, and for whoever has this
# layer among others, nothing changes.
FILESEXTRAPATHS:prepend:drawbridge-nic := "${THISDIR}/files:"
SRC_URI:append:drawbridge-nic = " file://bf-offload.scc"

SUMMARY = "Image for trying Drawbridge's packages, under QEMU too"
DESCRIPTION = "A small image with what packagegroup-drawbridge-nic brings, to be \
               booted under QEMU or on a board."
HOMEPAGE = "https://drawbridge.dev/"
BUGTRACKER = "https://drawbridge.dev/"
SECTION = "images"
LICENSE = "Apache-2.0"
# Of the packages in it.
CVE_PRODUCT = ""

inherit core-image

IMAGE_INSTALL = "\
    kernel-modules \
    packagegroup-core-boot \
    packagegroup-drawbridge-nic \
"

//! What has no form on the wire.

/// A rule that has no form on the wire. Nothing of it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    #[error("flower cannot match \"whole packets and first fragments\" in one filter")]
    NotLater,
    #[error("{0} is no VLAN id; the kernel would take its lower 12 bits")]
    VlanId(u16),
    #[error("{0:#06x} is no Ethernet type of a frame; TC reads it as \"any protocol\" or \"none\"")]
    EtherType(u16),
    #[error("{0} actions; the kernel takes 32")]
    Actions(usize),
    #[error("its attributes do not fit a message")]
    TooLong,
}

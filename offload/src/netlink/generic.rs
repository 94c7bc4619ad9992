//! Generic netlink: families have numbers only at run time (`nlctrl`).

use super::error::{Errno, Error, Result};
use super::request::Request;
use super::socket::{NetlinkSocket, Protocol};
use super::wire::{Attributes, Malformed, Writer};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// Command, version, two reserved bytes.
pub const HEADER: usize = 4;

/// A generic netlink family as this kernel numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub id: u16,
    /// Multicast groups by name.
    pub groups: Vec<(String, u32)>,
}

impl Family {
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
    }
}

/// A request's payload: the generic header, then attributes.
pub fn payload(command: u8, version: u8) -> Writer {
    Writer::new(&[command, version, 0, 0])
}

/// Asks the kernel for a family. Loads the module that has it, as far as the kernel does that itself.
pub fn family(socket: &mut NetlinkSocket, name: &str) -> Result<Family> {
    let operation = format_args!("find generic netlink family {name}");
    let malformed = |source| Error::Malformed { operation: operation.to_string(), source };
    let mut writer = payload(CTRL_CMD_GETFAMILY, 2);
    writer.put_text(CTRL_ATTR_FAMILY_NAME, name);
    let request = Request::new(GENL_ID_CTRL, 0, writer.finish().map_err(malformed)?);
    let answer = socket.request(operation, &request).map_err(|error| match error.errno() {
        Some(Errno::ENOENT) => Error::NoFamily { operation: operation.to_string(), family: name.to_owned() },
        _ => error,
    })?;
    let payload = answer.payloads.first().ok_or_else(|| malformed(Malformed::new("an empty answer")))?;
    decode(payload).map_err(malformed)
}

fn decode(payload: &[u8]) -> std::result::Result<Family, Malformed> {
    let mut id = None;
    let mut groups = Vec::new();
    for attribute in Attributes::after(payload, HEADER)? {
        let attribute = attribute?;
        match attribute.kind {
            CTRL_ATTR_FAMILY_ID => id = Some(attribute.u16()?),
            CTRL_ATTR_MCAST_GROUPS => {
                for group in attribute.nested() {
                    let group = group?.nested();
                    let name = group.find(CTRL_ATTR_MCAST_GRP_NAME)?.map(|a| a.text());
                    let number = group.find(CTRL_ATTR_MCAST_GRP_ID)?.map(|a| a.u32()).transpose()?;
                    groups.extend(name.zip(number));
                }
            }
            _ => {}
        }
    }
    let id = id.ok_or_else(|| Malformed::new("a family without a number"))?;
    Ok(Family { id, groups })
}

/// A generic netlink socket.
pub fn open() -> Result<NetlinkSocket> {
    NetlinkSocket::open(Protocol::Generic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_nlctrl_itself() {
        let mut socket = open().unwrap();
        let nlctrl = family(&mut socket, "nlctrl").unwrap();
        assert_eq!(nlctrl.id, GENL_ID_CTRL);
        assert!(nlctrl.group("notify").is_some(), "{nlctrl:?}");
        let missing = family(&mut socket, "no-such-family").unwrap_err();
        assert!(matches!(missing, Error::NoFamily { .. }), "{missing}");
    }

    #[test]
    fn a_family_must_have_a_number() {
        assert!(decode(&[1, 2, 0, 0]).is_err());
        assert!(decode(&[1, 2]).is_err());
    }
}

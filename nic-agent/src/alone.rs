//! One agent on a NIC: who runs has a name that nobody else can have at the same time, and that others can look for.
//!
//! An abstract Unix address (unix(7)) belongs to a network namespace, as representors do. It is gone with the process,
//! however that ends, and needs no directory.

use std::io::{Error, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const NAME: &[u8] = b"drawbridge/nic-agent";

/// The name, for as long as this lives. Nobody is answered by it.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "it is held, not used")] UnixDatagram);

/// `None`: another has it.
///
/// # Errors
/// The kernel has no Unix sockets for us.
pub fn claim() -> Result<Option<Alone>, Error> {
    claim_name(NAME)
}

/// Whether an agent runs in this network namespace.
///
/// # Errors
/// As [`claim`].
pub fn is_taken() -> Result<bool, Error> {
    is_name_taken(NAME)
}

fn claim_name(name: &[u8]) -> Result<Option<Alone>, Error> {
    match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(socket) => Ok(Some(Alone(socket))),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_name_taken(name: &[u8]) -> Result<bool, Error> {
    // Connecting, not binding: several may look at once and see each other not.
    match UnixDatagram::unbound()?.connect_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_name_and_all_see_it() {
        let name = format!("drawbridge/test/{}", std::process::id());
        let name = name.as_bytes();
        assert!(!is_name_taken(name).unwrap());
        let alone = claim_name(name).unwrap().unwrap();
        // However many look, and however often.
        assert!((0..1000).all(|_| is_name_taken(name).unwrap()));
        assert!(claim_name(name).unwrap().is_none());
        drop(alone);
        assert!(!is_name_taken(name).unwrap());
        assert!(claim_name(name).unwrap().is_some());
    }
}

//! `OFPT_FLOW_MOD`.

use crate::openflow::actions::wire::{put_instructions, take_instructions};
use crate::openflow::fields::{Cookie, TableId};
use crate::openflow::flow::{Flow, FlowKey, FlowMod};
use crate::openflow::matches::Match;
use crate::openflow::oxm::{put_match, take_match};
use crate::openflow::wire::{DecodeError, EncodeError, Put, Reader};

const ADD: u8 = 0;
const MODIFY_STRICT: u8 = 2;
const DELETE: u8 = 3;
const DELETE_STRICT: u8 = 4;
const ALL_TABLES: u8 = 0xff;
/// `OFP_DEFAULT_PRIORITY`: what ovs-ofctl writes where the priority has no meaning.
const DEFAULT_PRIORITY: u16 = 0x8000;

pub fn put(change: &FlowMod, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let exact = |cookie: &Option<Cookie>| cookie.map_or((0, 0), |Cookie(cookie)| (cookie, u64::MAX));
    let (command, (cookie, cookie_mask), table, priority, matches, actions) = match change {
        FlowMod::Add(flow) => {
            (ADD, (flow.cookie.0, 0), flow.table.0, flow.priority, &flow.matches, &flow.actions[..])
        }
        FlowMod::ModifyStrict(flow) => {
            (MODIFY_STRICT, (flow.cookie.0, 0), flow.table.0, flow.priority, &flow.matches, &flow.actions[..])
        }
        FlowMod::DeleteStrict(key) => {
            (DELETE_STRICT, (0, 0), key.table.0, key.priority, &key.matches, &[][..])
        }
        FlowMod::Delete { table, cookie, matches } => {
            let table = table.map_or(ALL_TABLES, |table| table.0);
            (DELETE, exact(cookie), table, DEFAULT_PRIORITY, matches, &[][..])
        }
    };
    out.put_u64(cookie);
    out.put_u64(cookie_mask);
    out.put_u8(table);
    out.put_u8(command);
    out.put_u32(0); // no idle and no hard timeout
    out.put_u16(priority);
    out.put_u32(u32::MAX); // no buffered packet
    out.put_u32(u32::MAX); // whatever its output port
    out.put_u32(u32::MAX); // whatever its group
    out.put_u32(0); // no flags, no importance
    put_match(matches, out)?;
    put_instructions(actions, out)
}

/// `None`: an order that this program does not give.
pub fn take(mut body: Reader<'_>) -> Result<Option<FlowMod>, DecodeError> {
    let (cookie, cookie_mask) = (body.u64()?, body.u64()?);
    let (table, command) = (body.u8()?, body.u8()?);
    let timeouts = body.u32()?;
    let priority = body.u16()?;
    let (_buffer, port, group) = (body.u32()?, body.u32()?, body.u32()?);
    let flags_and_importance = body.u32()?;
    let matches: Match = take_match(&mut body)?;
    let actions = take_instructions(body)?;
    if (timeouts, flags_and_importance, port, group) != (0, 0, u32::MAX, u32::MAX) {
        return Ok(None);
    }
    let flow =
        |matches, actions| Flow { table: TableId(table), priority, cookie: Cookie(cookie), matches, actions };
    Ok(match (command, cookie_mask) {
        (ADD, _) => Some(FlowMod::Add(flow(matches, actions))),
        (MODIFY_STRICT, 0) => Some(FlowMod::ModifyStrict(flow(matches, actions))),
        (DELETE_STRICT, 0) => {
            Some(FlowMod::DeleteStrict(FlowKey { table: TableId(table), priority, matches }))
        }
        (DELETE, 0 | u64::MAX) => Some(FlowMod::Delete {
            table: if table == ALL_TABLES { None } else { Some(TableId(table)) },
            cookie: if cookie_mask == 0 { None } else { Some(Cookie(cookie)) },
            matches,
        }),
        _ => None,
    })
}

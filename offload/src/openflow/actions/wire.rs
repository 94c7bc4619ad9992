//! Actions and instructions as bytes. What is not understood is kept whole.

use super::{Action, Commit, Ct, CtExec, CtZoneSource, Foreign, Port, RegSlice, SetField, nat};
use crate::openflow::fields::{Bits, TableId};
use crate::openflow::fields::{Oxm, OxmField};
use crate::openflow::oxm::{CT_MARK, ETH_DST, ETH_SRC, field_reg, reg_field};
use crate::openflow::wire::{DecodeError, EncodeError, Pad, Put, Reader};

const INSTRUCTION_GOTO: u16 = 1;
const INSTRUCTION_APPLY: u16 = 4;

const OUTPUT: u16 = 0;
const SET_FIELD: u16 = 25;
const COPY_FIELD: u16 = 28;
const METER: u16 = 29;
const EXPERIMENTER: u16 = 0xffff;
const NICIRA: u32 = 0x0000_2320;

const NX_NOTE: u16 = 8;
const NX_RESUBMIT_TABLE: u16 = 14;
const NX_OUTPUT_REG: u16 = 15;
const NX_OUTPUT_REG2: u16 = 32;
const NX_CONJUNCTION: u16 = 34;
const NX_CT: u16 = 35;
const NX_NAT: u16 = 36;
const NX_CT_CLEAR: u16 = 43;

/// `OFPP_IN_PORT` in the 16 bits of OpenFlow 1.0: "resubmit with the port that it came from".
const RESUBMIT_IN_PORT: u16 = 0xfff8;
const CT_COMMIT: u16 = 1;
const CT_FORCE: u16 = 2;
const NO_RECIRCULATION: u8 = 0xff;
const SUBFIELD_WHOLE: u16 = 31;

/// Appends the instructions of a flow.
pub fn put_instructions(actions: &[Action], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut list = Vec::new();
    let mut after = Vec::new();
    let mut rest = actions.iter().peekable();
    while let Some(action) = rest.next() {
        match action {
            Action::Goto(table) => {
                let only_foreign = rest.clone().all(|a| matches!(a, Action::Other(Foreign::Instruction(_))));
                if !only_foreign {
                    return Err(EncodeError::GotoNotLast);
                }
                after.put_tlv("instruction", INSTRUCTION_GOTO, &[table.0, 0, 0, 0], Pad::Counted)?;
            }
            Action::Other(Foreign::Instruction(bytes)) => after.put(bytes),
            action => put_action(action, &mut list)?,
        }
    }
    if !list.is_empty() {
        let mut body = vec![0; 4];
        body.put(&list);
        out.put_tlv("actions", INSTRUCTION_APPLY, &body, Pad::None)?;
    }
    out.put(&after);
    Ok(())
}

fn put_action(action: &Action, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = Vec::new();
    match action {
        Action::Output(port) => {
            body.put_u32(port.number());
            // How much of a packet the controller gets: of no meaning elsewhere.
            body.put_u16(0);
            body.put_zeroes(6);
            return out.put_tlv("output", OUTPUT, &body, Pad::Counted);
        }
        Action::Set(set) => return put_set_field(&set.oxm(), out),
        Action::Meter(meter) => {
            body.put_u32(*meter);
            return out.put_tlv("meter", METER, &body, Pad::Counted);
        }
        Action::Other(Foreign::Action(bytes) | Foreign::Instruction(bytes)) => {
            out.put(bytes);
            return Ok(());
        }
        Action::Goto(_) => return Err(EncodeError::GotoNotLast),
        Action::OutputReg(slice) => {
            nicira(&mut body, NX_OUTPUT_REG);
            body.put_u16(ofs_nbits(*slice)?);
            body.put_u32(reg_field(slice.reg).header(false, 4));
            body.put_u16(0xffff);
            body.put_zeroes(6);
        }
        Action::Ct(ct) => put_ct(ct, &mut body)?,
        Action::CtClear => nicira(&mut body, NX_CT_CLEAR),
        Action::Resubmit(table) => {
            nicira(&mut body, NX_RESUBMIT_TABLE);
            body.put_u16(RESUBMIT_IN_PORT);
            body.put_u8(table.0);
        }
        Action::Conjunction { id, clause, clauses } => {
            let error = EncodeError::BadConjunction { clause: *clause, clauses: *clauses };
            let index = clause.checked_sub(1).filter(|_| clause <= clauses && (2..=64).contains(clauses));
            nicira(&mut body, NX_CONJUNCTION);
            body.put_u8(index.ok_or(error)?);
            body.put_u8(*clauses);
            body.put_u32(*id);
        }
        Action::Note(note) => {
            nicira(&mut body, NX_NOTE);
            body.put(note);
        }
    }
    out.put_tlv("action", EXPERIMENTER, &body, Pad::Counted)
}

fn nicira(body: &mut Vec<u8>, subtype: u16) {
    body.put_u32(NICIRA);
    body.put_u16(subtype);
}

fn ofs_nbits(slice: RegSlice) -> Result<u16, EncodeError> {
    let RegSlice { offset, bits, .. } = slice;
    let error = EncodeError::BadSlice { offset, bits };
    if bits == 0 || offset >= 32 || bits > 32 - offset {
        return Err(error);
    }
    Ok(u16::from(offset) << 6 | u16::from(bits - 1))
}

fn put_set_field(oxm: &Oxm, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = Vec::new();
    oxm.put(&mut body)?;
    out.put_tlv("set_field", SET_FIELD, &body, Pad::Counted)
}

fn put_ct(ct: &Ct, body: &mut Vec<u8>) -> Result<(), EncodeError> {
    nicira(body, NX_CT);
    body.put_u16(match ct.commit {
        Commit::No => 0,
        Commit::Yes => CT_COMMIT,
        Commit::Force => CT_COMMIT | CT_FORCE,
    });
    match ct.zone {
        CtZoneSource::Fixed(zone) => {
            body.put_u32(0);
            body.put_u16(zone);
        }
        CtZoneSource::Reg(slice) => {
            body.put_u32(reg_field(slice.reg).header(false, 4));
            body.put_u16(ofs_nbits(slice)?);
        }
    }
    body.put_u8(ct.table.map_or(NO_RECIRCULATION, |table| table.0));
    body.put_zeroes(3);
    body.put_u16(0); // no helper
    for exec in &ct.exec {
        match exec {
            CtExec::SetMark(mark) => put_set_field(&Oxm::masked(CT_MARK, *mark), body)?,
            CtExec::CopyToMark(slice) => put_copy_to_mark(*slice, body)?,
            CtExec::Nat(translation) => {
                let mut inner = Vec::new();
                nicira(&mut inner, NX_NAT);
                nat::put(*translation, &mut inner);
                body.put_tlv("nat", EXPERIMENTER, &inner, Pad::Counted)?;
            }
            CtExec::Other(bytes) => body.put(bytes),
        }
    }
    Ok(())
}

/// `struct ofp15_action_copy_field`, with the headers of both fields behind it.
fn put_copy_to_mark(slice: RegSlice, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    ofs_nbits(slice)?;
    let mut body = Vec::new();
    body.put_u16(slice.bits.into());
    body.put_u16(slice.offset.into());
    body.put_u16(0); // the mark's lowest bits
    body.put_zeroes(2);
    body.put_u32(reg_field(slice.reg).header(false, 4));
    body.put_u32(CT_MARK.header(false, 4));
    out.put_tlv("copy_field", COPY_FIELD, &body, Pad::Counted)
}

fn take_copy_to_mark(mut body: Reader<'_>) -> Result<Option<RegSlice>, DecodeError> {
    let (bits, offset, to) = (body.u16()?, body.u16()?, body.u16()?);
    body.skip(2)?;
    let (from, mark) = (body.u32()?, body.u32()?);
    let fits = to == 0 && mark == CT_MARK.header(false, 4) && (1..=32).contains(&bits) && offset < 32;
    Ok(if fits { slice(from, offset << 6 | (bits - 1)) } else { None })
}

impl SetField {
    fn oxm(&self) -> Oxm {
        match self {
            Self::Reg(reg, value) => Oxm::masked(reg_field(*reg), *value),
            Self::EthSrc(mac) => Oxm::exact(ETH_SRC, *mac),
            Self::EthDst(mac) => Oxm::exact(ETH_DST, *mac),
            Self::Other(oxm) => oxm.clone(),
        }
    }

    fn from_oxm(oxm: Oxm) -> Self {
        let exact_mac = || oxm.as_masked().filter(|mac| mac.is_exact()).map(super::Masked::value);
        let known = match oxm.field {
            ETH_SRC => exact_mac().map(Self::EthSrc),
            ETH_DST => exact_mac().map(Self::EthDst),
            field => field_reg(field).and_then(|reg| Some(Self::Reg(reg, oxm.as_masked()?))),
        };
        known.unwrap_or(Self::Other(oxm))
    }
}

/// Reads instructions until the end.
pub fn take_instructions(mut reader: Reader<'_>) -> Result<Vec<Action>, DecodeError> {
    let mut actions = Vec::new();
    let mut after = Vec::new();
    while !reader.is_empty() {
        let start = reader;
        let (kind, mut body) = reader.tlv("instruction", false)?;
        match kind {
            INSTRUCTION_APPLY => {
                body.skip(4)?;
                while !body.is_empty() {
                    actions.push(take_action(&mut body)?);
                }
            }
            INSTRUCTION_GOTO => after.push(Action::Goto(TableId(body.u8()?))),
            _ => after.push(Action::Other(Foreign::Instruction(whole(start, reader)))),
        }
    }
    actions.append(&mut after);
    Ok(actions)
}

/// The bytes between two positions of one reader.
fn whole(before: Reader<'_>, after: Reader<'_>) -> Vec<u8> {
    let length = before.len().saturating_sub(after.len());
    before.rest().get(..length).unwrap_or_default().to_vec()
}

fn take_action(reader: &mut Reader<'_>) -> Result<Action, DecodeError> {
    let start = *reader;
    let (kind, body) = reader.tlv("action", false)?;
    let known = match kind {
        OUTPUT => take_output(body)?,
        SET_FIELD => Some(Action::Set(SetField::from_oxm(take_set_field(body)?))),
        METER => Some(Action::Meter(take_meter(body)?)),
        EXPERIMENTER => take_nicira(body)?,
        _ => None,
    };
    Ok(known.unwrap_or_else(|| Action::Other(Foreign::Action(whole(start, *reader)))))
}

fn take_output(mut body: Reader<'_>) -> Result<Option<Action>, DecodeError> {
    let port = Port::from_number(body.u32()?);
    // To the controller, how much of the packet matters, and we never send any.
    Ok(if port == Port::Controller { None } else { Some(Action::Output(port)) })
}

fn take_meter(mut body: Reader<'_>) -> Result<u32, DecodeError> {
    body.u32()
}

fn take_set_field(mut body: Reader<'_>) -> Result<Oxm, DecodeError> {
    Oxm::take(&mut body)
}

fn take_nicira(mut body: Reader<'_>) -> Result<Option<Action>, DecodeError> {
    if body.u32()? != NICIRA {
        return Ok(None);
    }
    Ok(match body.u16()? {
        NX_NOTE => Some(Action::Note(body.rest().to_vec())),
        NX_RESUBMIT_TABLE => {
            let port = body.u16()?;
            let table = TableId(body.u8()?);
            if port == RESUBMIT_IN_PORT { Some(Action::Resubmit(table)) } else { None }
        }
        NX_OUTPUT_REG | NX_OUTPUT_REG2 => {
            let bits = body.u16()?;
            slice(body.u32()?, bits).map(Action::OutputReg)
        }
        NX_CONJUNCTION => {
            let (index, clauses, id) = (body.u8()?, body.u8()?, body.u32()?);
            Some(Action::Conjunction { id, clause: index.saturating_add(1), clauses })
        }
        NX_CT => take_ct(body)?.map(Action::Ct),
        NX_CT_CLEAR => Some(Action::CtClear),
        _ => None,
    })
}

fn slice(header: u32, ofs_nbits: u16) -> Option<RegSlice> {
    let (field, has_mask, _) = OxmField::from_header(header);
    let reg = field_reg(field).filter(|_| !has_mask)?;
    let offset = u8::from_bits(u128::from(ofs_nbits >> 6));
    let bits = u8::from_bits(u128::from(ofs_nbits & 0x3f)).saturating_add(1);
    let fits = ofs_nbits & 0x3f <= SUBFIELD_WHOLE && offset < 32 && bits <= 32 - offset;
    if fits { Some(RegSlice { reg, offset, bits }) } else { None }
}

fn take_ct(mut body: Reader<'_>) -> Result<Option<Ct>, DecodeError> {
    let flags = body.u16()?;
    let source = body.u32()?;
    let immediate = body.u16()?;
    let table = body.u8()?;
    body.skip(3)?;
    let helper = body.u16()?;
    let mut exec = Vec::new();
    while !body.is_empty() {
        exec.push(take_exec(&mut body)?);
    }
    let commit = match flags {
        0 => Commit::No,
        CT_COMMIT => Commit::Yes,
        flags if flags == CT_COMMIT | CT_FORCE => Commit::Force,
        _ => return Ok(None),
    };
    let zone = match source {
        0 => CtZoneSource::Fixed(immediate),
        header => match slice(header, immediate) {
            Some(slice) => CtZoneSource::Reg(slice),
            None => return Ok(None),
        },
    };
    let table = if table == NO_RECIRCULATION { None } else { Some(TableId(table)) };
    Ok(if helper == 0 { Some(Ct { commit, zone, table, exec }) } else { None })
}

fn take_exec(reader: &mut Reader<'_>) -> Result<CtExec, DecodeError> {
    let start = *reader;
    let (kind, mut body) = reader.tlv("ct action", false)?;
    let known = match kind {
        SET_FIELD => {
            let oxm = take_set_field(body)?;
            if oxm.field == CT_MARK { oxm.as_masked().map(CtExec::SetMark) } else { None }
        }
        COPY_FIELD => take_copy_to_mark(body)?.map(CtExec::CopyToMark),
        EXPERIMENTER => {
            if body.u32()? == NICIRA && body.u16()? == NX_NAT {
                nat::take(&mut body)?.map(CtExec::Nat)
            } else {
                None
            }
        }
        _ => None,
    };
    Ok(known.unwrap_or_else(|| CtExec::Other(whole(start, *reader))))
}
